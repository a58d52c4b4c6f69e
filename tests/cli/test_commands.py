"""What all commands have in common: the files that they read and write."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest


@pytest.mark.skipif(os.name != "posix", reason="there are no such files")
def test_standard_output_as_a_file_holds_nothing_else(files, tmp_path):
    """The model goes through the pipe as it is, the report to standard error."""
    command = [sys.executable, "-m", "sparse_rt", "compress", files["pruned"], "-o"]
    subprocess.run([*command, tmp_path / "c.onnx"], check=True, capture_output=True)
    done = subprocess.run([*command, "/dev/stdout"], check=True, capture_output=True)
    assert done.stdout == (tmp_path / "c.onnx").read_bytes()
    assert b"4 of 5 layers compressed" in done.stderr
    listed = subprocess.run([*command, "/dev/null", "--json", "/dev/stdout"], check=True, capture_output=True)
    assert json.loads(listed.stdout)["bytes_after"] == len(done.stdout)


@pytest.mark.parametrize("command", ["run", "verify"])
def test_wrong_inputs(cli, files, tmp_path, command):
    cases = {
        "missing.npz": None,
        "wrong_name.npz": {"x": np.zeros(3, np.float32)},
        "wrong_shape.npz": {"image": np.zeros((2, 2), np.float32)},
        "wrong_type.npz": {"image": np.zeros((1, 1, 8, 8), np.int32)},
        "objects.npz": {"image": np.array([{}], object)},
    }
    for name, arrays in cases.items():
        if arrays is not None:
            np.savez(tmp_path / name, **arrays)
        result = cli(command, files["pruned_compressed"], "--inputs", tmp_path / name)
        assert result.exit_code == 2, name
        assert result.stderr.startswith("error: "), name
    (tmp_path / "text.npz").write_text("no archive")
    assert cli(command, files["pruned_compressed"], "--inputs", tmp_path / "text.npz").exit_code == 2


@pytest.mark.parametrize("option", ["-o", "--json", "--outputs"])
def test_an_output_that_names_a_folder_is_refused(cli, files, tmp_path, option):
    command = {"-o": "compress", "--json": "inspect", "--outputs": "run"}[option]
    result = cli(command, files["pruned"], option, f"{tmp_path}/new/")
    assert result.exit_code == 2
    assert "the path of a file" in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("option", "command"),
    [
        *[("MODEL", name) for name in ("inspect", "prune", "compress", "quantize", "run", "verify", "bench")],
        *[("--reference", name) for name in ("verify", "bench")],
        *[("--inputs", name) for name in ("run", "verify", "bench")],
        ("--calib", "quantize"),
    ],
)
@pytest.mark.parametrize("kind", ["fifo", "device", "folder", "text", "nothing"])
def test_what_is_no_file_to_read_is_refused_at_once(cli, files, tmp_path, command, option, kind):
    """Nothing waits for the writer of a FIFO, or reads a device that never ends."""
    path = {"device": "/dev/zero", "folder": tmp_path}.get(kind, tmp_path / kind)
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "text":
        path.write_text("hello\n")
    samples = tmp_path / "samples.npz"
    np.savez(samples, x=np.zeros(1, np.float32))
    arguments = [command, path if option == "MODEL" else files["pruned"]]
    if command in {"prune", "compress", "quantize"}:
        arguments += ["-o", tmp_path / "out.onnx"]
    if command == "quantize" and option == "MODEL":
        arguments += ["--calib", samples]
    if option != "MODEL":
        arguments += [option, path]
    signal.alarm(30)
    try:
        result = cli(*arguments)
    finally:
        signal.alarm(0)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert "bug" not in result.stderr
    assert not (tmp_path / "out.onnx").exists()


@pytest.mark.parametrize("command", ["run", "verify", "bench"])
def test_more_threads_than_any_machine_has(cli, files, command):
    result = cli(command, files["pruned"], "--threads", 100_000)
    assert result.exit_code == 2
    assert "a whole number from 0 to 4096, got 100000" in result.stderr
