"""The measurement as a whole."""

import json

import numpy as np
import pytest

from sparse_rt.bench import bench
from sparse_rt.errors import ConfigError, SparseRTError


@pytest.mark.parametrize("options", [{"seconds": 0}, {"seconds": -1.0}, {"seconds": float("nan")}, {"threads": 0}])
def test_options_out_of_range(files, options):
    with pytest.raises(ConfigError):
        bench(files["pruned"], **options)


def test_bench_of_bytes_and_wrong_feeds(files):
    with pytest.raises(SparseRTError, match="engine onnxruntime"):
        bench(files["pruned"].read_bytes(), feeds={"image": np.zeros((1, 2), np.float32)}, seconds=0.1)
    report = bench(files["pruned"].read_bytes(), seconds=0.2, layers=False)
    assert (report.model, report.layers) == ("model", ())


def test_profile_is_kept(files, tmp_path):
    trace = tmp_path / "trace.json"
    report = bench(files["pruned_compressed"], seconds=0.3, threads=1, profile=trace)
    assert all(layer.dense for layer in report.layers)
    assert "model_run" in {event["name"] for event in json.loads(trace.read_text())}
    with pytest.raises(SparseRTError, match="a file that can be written"):
        bench(files["pruned"], seconds=0.1, threads=1, layers=False, profile=tmp_path / "none" / "trace.json")
