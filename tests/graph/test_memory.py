"""Compressing and pruning a file takes no second dense copy of it."""

import subprocess
import sys

import numpy as np
import onnx
import pytest

from tests.graph import models

# getrusage's peak would be the parent's.
_CODE = """
import re, sys
import sparse_rt.graph.passes.compress, sparse_rt.prune, rich.table
from sparse_rt.cli import main
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
before = peak()
try:
    main.app(sys.argv[1:])
finally:
    print(peak() - before, file=sys.stderr)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="read from /proc")
@pytest.mark.parametrize("external", [False, True])
@pytest.mark.parametrize("command", ["compress", "prune"])
def test_peak_memory_stays_below_twice_the_model(command, external, tmp_path):
    path = tmp_path / "model.onnx"
    weight = np.tile(models.two_four(0, (2048, 4096)), (4, 1))
    proto = models.matmul_model(weight if command == "compress" else np.ascontiguousarray(weight.T))
    onnx.save(proto, path, save_as_external_data=external, location="model.data")
    size = weight.nbytes
    run = [sys.executable, "-c", _CODE, command, str(path), "-o", str(tmp_path / "out.onnx")]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    peak = int(done.stderr.splitlines()[-1]) * 1024
    assert ("1 of 1 layers compressed" if command == "compress" else "-> ") in done.stdout
    assert 0.5 * size < peak < 2 * size
