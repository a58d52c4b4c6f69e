"""The parts of bench: statistics, turns, and processes that misbehave."""

import itertools
import subprocess
import sys
import time

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sparse_rt.bench import bench
from sparse_rt.bench.engines import OnnxRuntime
from sparse_rt.bench.process import EngineProcess
from sparse_rt.bench.statistics import ratio_of_medians, summarise
from sparse_rt.bench.turns import alternate
from sparse_rt.errors import ConfigError, FeedError, SparseRTError


def process(code):
    return EngineProcess("test", [sys.executable, "-c", code])


def test_summary():
    found = summarise([5.0, 1.0, 2.0, 4.0, 3.0])
    assert (found.runs, found.median, found.minimum) == (5, 3.0, 1.0)
    assert found.p90 == pytest.approx(4.6)
    assert found.p99 == pytest.approx(4.96)
    with pytest.raises(ValueError, match="at least one"):
        summarise([])


def test_ratio_of_equal_turns_is_certain():
    found = ratio_of_medians([[2.0, 2.0], [2.0]], [[1.0], [1.0, 1.0]])
    assert (found.value, found.low, found.high, found.turns) == (2, 2, 2, 2)


def test_interval_covers_the_true_ratio_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for seed in range(60):
        dense, sparse = (
            [list(median * rng.lognormal(0, 0.1) * rng.lognormal(0, 0.05, 9)) for _ in range(12)]
            for median in (3.0, 2.0)
        )
        found = ratio_of_medians(dense, sparse, seed)
        assert found.low <= found.value <= found.high
        hits += found.low <= 1.5 <= found.high
    assert hits >= 48


def test_ratio_needs_pairs():
    with pytest.raises(ValueError, match="equally many"):
        ratio_of_medians([[1.0]], [])


def test_turns_alternate_and_end():
    now = 0.0
    log = []

    def contestant(name, one):
        def turn(runs):
            nonlocal now
            log.append(name)
            now += runs * one
            return [one] * runs

        return turn

    turns = alternate(contestant("d", 0.01), contestant("s", 0.005), 2.4, clock=lambda: now)
    assert len(turns.dense) == len(turns.sparse)
    assert 8 <= len(turns.dense) <= 12
    assert now == pytest.approx(2.4, abs=0.4)
    assert "".join(log[2:10]) == "dssddssd"
    assert len(turns.sparse[3]) == pytest.approx(2 * len(turns.dense[3]), abs=2)


def test_slow_engines_get_three_turns():
    ticks = itertools.count()
    turns = alternate(lambda runs: [9.0] * runs, lambda runs: [9.0] * runs, 0.1, clock=lambda: float(next(ticks)))
    assert [len(turn) for turn in turns.dense] == [1, 1, 1]


def test_a_dying_process_is_reported_with_its_last_words():
    with process("import sys; sys.stdin.readline(); sys.exit('out of luck')") as engine:
        with pytest.raises(SparseRTError, match=r"engine test: expected a running process, got exit status 1.*luck"):
            engine.request("load", 60)
        with pytest.raises(SparseRTError, match="running process"):
            engine.request("load", 60)


def test_a_silent_process_is_ended():
    engine = process("import time; time.sleep(600)")
    start = time.perf_counter()
    with pytest.raises(SparseRTError, match=r"none to 'turn' within"):
        engine.request("turn", 0.2)
    assert time.perf_counter() - start < 30
    engine.close()


def test_a_babbling_process_is_reported():
    with (
        process("input(); print('hello')\nwhile True: input()") as engine,
        pytest.raises(SparseRTError, match="an answer in JSON, got 'hello"),
    ):
        engine.request("load", 60)


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


@pytest.mark.parametrize("options", [{"seconds": 0}, {"seconds": -1.0}, {"seconds": float("nan")}, {"threads": 0}])
def test_options_out_of_range(files, options):
    with pytest.raises(ConfigError):
        bench(files["pruned"], **options)


def test_bench_of_bytes_and_wrong_feeds(files):
    with pytest.raises(SparseRTError, match="engine onnxruntime"):
        bench(files["pruned"].read_bytes(), feeds={"image": np.zeros((1, 2), np.float32)}, seconds=0.1)
    report = bench(files["pruned"].read_bytes(), seconds=0.2, layers=False)
    assert (report.model, report.layers) == ("model", ())


def test_feeds_of_initializers_that_callers_may_override_reach_onnxruntime(tmp_path):
    constant = numpy_helper.from_array(np.ones(3, np.float32), "c")
    x, c, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [3]) for name in "xcy")
    graph = helper.make_graph([helper.make_node("Add", ["x", "c"], ["y"])], "g", [x, c], [y], [constant])
    onnx.save(helper.make_model(graph, ir_version=8), tmp_path / "m.onnx")
    engine = OnnxRuntime(str(tmp_path / "m.onnx"), 1)
    engine.set_feeds({"x": np.zeros(3, np.float32), "other": np.zeros(1)})
    with pytest.raises(FeedError, match="index: 0 Got: 4 Expected: 3"):
        engine.set_feeds({"x": np.zeros(3, np.float32), "c": np.zeros(4, np.float32)})
