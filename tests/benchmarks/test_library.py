"""The benchmark of the library inside onnxruntime: its arithmetic, its table, and its engines on a small model."""

import sys

import numpy as np
import pytest

from benchmarks import fresh_process
from benchmarks.comparison import OURS, Comparison, compare
from benchmarks.library import result, table_row
from benchmarks.registered import WITHOUT
from sparse_rt.bench.process import EngineProcess
from sparse_rt.feeds import write_npz

FRESH = {
    "onnxruntime": [{"start": start, "first": 0.01, "peak": 100, "imported": 50} for start in (0.1, 0.2, 9)],
    OURS: [{"start": 0.5, "first": 0.03, "peak": 150, "imported": 110}],
}


def row(ours, model="bert_base_s128", **ours_fresh):
    comparison = Comparison({"onnxruntime": [[3.0]] * 3, OURS: [[ours]] * 3}, {})
    fresh = {**FRESH, OURS: [{**FRESH[OURS][0], **ours_fresh}]}
    return {"model": model, "dtype": "float32", "threads": 1, **result(comparison, fresh)}


def test_a_row():
    found = row(2.0)
    assert found["ratio"]["value"] == 1.5
    assert found["later"] == pytest.approx(0.32)
    cells = ["1.50 [1.50, 1.50]", "1.4", "0.200 / 0.500", "0.010 / 0.030", "+0.32", "1.50", "0.80", ""]
    assert table_row(found)[5:] == cells


@pytest.mark.parametrize(
    "found", [row(2.5), row(3.5, "mobilenet_v2_b1"), row(2.0, start=0.9), row(2.0, peak=161)], ids=range(4)
)
def test_what_misses(found):
    assert table_row(found)[-1] == "misses"


def test_engines_on_a_small_model(files, tmp_path):
    feeds = tmp_path / "feeds.npz"
    write_npz(feeds, {"image": np.zeros((1, 1, 8, 8), np.float32)})
    command = [sys.executable, "-m", "benchmarks.library_worker", WITHOUT]
    with EngineProcess("onnxruntime") as dense, EngineProcess("library", command) as ours:
        engines = {"onnxruntime": dense, OURS: ours}
        paths = (files["pruned"], files["pruned_compressed"], feeds)
        found = compare(engines, *paths, threads=1, seconds=0.01, turn_seconds=0.001)
    assert found.versions[OURS].endswith("with library none")
    assert len(found.turns[OURS]) >= 3
    fresh = fresh_process.measure(f"library={WITHOUT}", files["pruned_compressed"], feeds, 1)
    assert fresh["peak"] > fresh["imported"] > 0
    assert fresh["start"] > 0 < fresh["first"]
