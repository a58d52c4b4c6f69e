"""``run``."""

import io
import os
import subprocess
import sys

import numpy as np
import onnx
import pytest

from tests.models.onnx_models import stock


def test_run_with_random_inputs(cli, files):
    result = cli("run", files["pruned_compressed"], "--batch", "3")
    assert result.exit_code == 0
    assert "[3, 10]" in result.stdout


def test_run_reads_and_writes_npz(cli, files, tmp_path, images):
    np.savez(tmp_path / "in.npz", image=images[:5])
    result = cli("run", files["int8_compressed"], "--inputs", tmp_path / "in.npz", "--outputs", tmp_path / "out.npz")
    assert result.exit_code == 0
    with np.load(tmp_path / "out.npz") as outputs:
        assert outputs.files == ["logits"]
        np.testing.assert_array_equal(outputs["logits"], stock(onnx.load(files["int8"]), {"image": images[:5]})[0])


def test_run_says_what_is_not_finite(cli, files, tmp_path, images):
    broken = images[:2].copy()
    broken[0] = np.nan
    np.savez(tmp_path / "in.npz", image=broken)
    result = cli("run", files["dense"], "--inputs", tmp_path / "in.npz")
    assert "64 of 128 not finite" in result.stdout


@pytest.mark.parametrize("path", ["/dev/null", "/dev/stdout", "fifo"])
def test_outputs_to_special_files(files, tmp_path, path):
    """An archive is written in order where nothing can seek."""
    command = [sys.executable, "-m", "sparse_rt", "run", str(files["pruned"]), "--outputs", path]
    reader = None
    if path == "fifo":
        os.mkfifo(tmp_path / path)
        reader = subprocess.Popen(["cat", path], cwd=tmp_path, stdout=subprocess.PIPE)
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    content = done.stdout if reader is None else reader.communicate(timeout=30)[0]
    if path != "/dev/null":
        assert np.load(io.BytesIO(content)).files
