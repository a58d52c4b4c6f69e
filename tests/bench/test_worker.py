"""What an engine's process answers."""

import subprocess
import sys

import pytest

from sparse_rt.errors import SparseRTError
from tests.bench.test_process import process


def test_worker_errors_are_answers_and_stray_prints_do_no_harm():
    code = (
        "import sparse_rt.bench.worker as w\n"
        "def load(self, path, threads): print('stray'); return {'version': path}\n"
        "w.Worker.load = load; w.main('onnxruntime')"
    )
    with process(code) as engine:
        with pytest.raises(SparseRTError, match="expected 'load' first"):
            engine.request("turn", 60, runs=1)
        assert engine.request("load", 60, path="x", threads=1) == {"version": "x"}
        with pytest.raises(SparseRTError, match="KeyError"):
            engine.request("dance", 60)


def test_worker_ends_with_its_pipe():
    done = subprocess.run(
        [sys.executable, "-m", "sparse_rt.bench.worker", "onnxruntime"], input="", text=True, check=False, timeout=60
    )
    assert done.returncode == 0
