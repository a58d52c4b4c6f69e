"""Decisions are functions of timings and sizes; here the timings are made up, so that no clock decides a test."""

import dataclasses
import itertools
import json
import threading
from types import SimpleNamespace

import numpy as np
import onnx_ir as ir
import pytest
from numba.core import config
from sparse_rt_kernels.cpu import isa

import sparse_rt as srt
from benchmarks.models.quantise import quantise_static
from sparse_rt.graph.layers.find import find_layers
from sparse_rt.plan import warm_up
from sparse_rt.plan.decisions import Decisions, Draft, LayerDecision
from sparse_rt.plan.prepare.prepare import prepare
from sparse_rt.plan.report import Trial
from sparse_rt.tuning import estimate, keys, layer_tuning, records, tuner
from sparse_rt.tuning.decide import PLAN, TUNED, fastest_plan, judge_layer, judge_whole
from sparse_rt.tuning.layer_tuning import LayerTuning
from sparse_rt.tuning.measure import quiet, race
from sparse_rt.tuning.measure_layer import ONNXRUNTIME
from sparse_rt.tuning.store import Store
from tests.models.forced_measurements import FakeRace, has_dense_kernels, no_race
from tests.models.onnx_models import INT64, info, model, node, normal, sparse, stock

needs_jit = pytest.mark.skipif(config.DISABLE_JIT, reason="nothing is tuned without machine code")
needs_dense = pytest.mark.skipif(
    bool(config.DISABLE_JIT) or not has_dense_kernels(), reason="no dense kernel of this tier"
)
FEW, MANY = 8, 64


@pytest.fixture
def rng():
    return np.random.default_rng(3)


@pytest.fixture
def proto(rng):
    """Two sparse layers with a Relu between them, the second of many channels, and an operator for onnxruntime."""
    return model(
        [
            node("MatMul", ["x", "v"], ["a"], name="few"),
            node("Relu", ["a"], ["b"]),
            node("MatMul", ["b", "w"], ["c"], name="many"),
            node("Sin", ["c"], ["y"]),
        ],
        [info("x", 3, 16)],
        [info("y", 3, MANY)],
        {"v": sparse(rng, FEW, 16).T.copy(), "w": sparse(rng, MANY, FEW).T.copy()},
    )


@pytest.fixture
def tuned(proto, monkeypatch, tmp_path):
    """Make a session that races are injected into, with a cache of its own."""

    def make(fake, mode="on", source=proto, **options):
        monkeypatch.setattr(tuner, "race", fake)
        monkeypatch.setattr(tuner, "Store", lambda: Store(tmp_path / "tuning"))
        return srt.InferenceSession(source, srt.SessionOptions(1, tuning=mode, **options))

    make.folder = tmp_path / "tuning"
    return make


def check(session, proto, rng):
    x = normal(rng, 3, 16)
    np.testing.assert_allclose(session.run(None, {"x": x})[0], stock(proto, {"x": x})[0], rtol=1e-4, atol=1e-5)


# --- races ---------------------------------------------------------------------------------------------------------


class Clock:
    """A clock that only runs of candidates move."""

    def __init__(self):
        self.now = 0.0
        self.log = []

    def __call__(self):
        return self.now

    def runner(self, name, *times):
        taken = itertools.cycle(times)

        def run():
            self.log.append(name)
            self.now += next(taken)

        return run


def test_a_race_ends_when_the_fastest_is_clear():
    clock = Clock()
    found = race({"a": clock.runner("a", 1.0), "b": clock.runner("b", 2.0)}, 1000, 1.0, clock=clock)
    assert found == {"a": 1.0, "b": 2.0}
    # Two runs before, then three rounds of two runs, a first one on top where runs are shorter than a turn.
    assert clock.log.count("b") == 2 + 3 * 2


def test_a_close_race_goes_on_and_one_slow_run_does_not_decide_it():
    clock = Clock()
    close = {"a": clock.runner("a", 1.0), "b": clock.runner("b", 1.125, 1.125, 64.0, 1.125, 1.125)}
    found = race(close, 1e6, 1.0, clock=clock)
    assert found == {"a": 1.0, "b": 1.125}
    assert clock.log.count("a") == 2 + 7 * 2


def test_a_race_without_time_still_runs_everybody():
    clock = Clock()
    assert race({"a": clock.runner("a", 3.0), "b": clock.runner("b", 2.0)}, 0.0, 1.0, clock=clock) == {"a": 3, "b": 2}


def test_who_begins_changes():
    clock = Clock()
    begun = []
    runs = {name: clock.runner(name, 1.0) for name in "ab"}
    race(runs, 1e6, 1.0, lambda: begun.append(len(clock.log)), clock=clock)
    firsts = [clock.log[at] for at in begun[2:]]
    assert firsts[:4] == ["a", "b", "b", "a"]


def test_waiting_for_quiet_ends():
    busy = threading.Event()
    thread = threading.Thread(target=lambda: [None for _ in iter(busy.is_set, True)])
    thread.start()
    quiet()
    busy.set()
    thread.join()
    quiet()


# --- judging -------------------------------------------------------------------------------------------------------

SPARSE, DENSE = "f32_n2m4_gemm_4x4__avx512", "f32_dense_gemm_4x4__avx512"


def trials(sparse_us, dense_us, stock_us):
    return (Trial(SPARSE, sparse_us), Trial(DENSE, dense_us), Trial(ONNXRUNTIME, stock_us))


@pytest.mark.parametrize(
    ("times", "hand_over", "kernel", "words"),
    [
        ((50, 60, 90), 0, SPARSE, "measured 1.80 times as fast as onnxruntime"),
        ((50, 40, 90), 0, DENSE, "kept dense: n = 24, selection costs more than it saves"),
        ((50, 49, 90), 0, SPARSE, "measured 1.80"),
        ((50, 60, 40), 0, None, "kept dense: measured 50 us sparse, 40 us in onnxruntime"),
        ((50, 60, 40), 15, SPARSE, "measured 0.80"),
        ((50, 60, 30), 10, None, "30 us in onnxruntime and 10 us to hand over"),
        ((50, 36, 30), 10, DENSE, "n = 24"),
    ],
)
def test_a_layer_goes_where_it_is_fastest(times, hand_over, kernel, words):
    decision = judge_layer(SPARSE, 24, trials(*times), hand_over)
    assert decision.kernel == kernel
    assert words in decision.reason
    assert decision.tried == trials(*times)


def test_a_layer_without_rivals_is_sparse():
    assert judge_layer(SPARSE, 24, trials(50, 1, 1)[:1], 0).kernel == SPARSE


def test_the_whole_model_goes_where_it_is_fastest():
    assert fastest_plan({PLAN: 1.0, ONNXRUNTIME: 1.01}) == PLAN
    assert fastest_plan({PLAN: 1.0, ONNXRUNTIME: 1.0}) == PLAN
    assert fastest_plan({PLAN: 1.0, TUNED: 0.995, ONNXRUNTIME: 1.0}) == PLAN
    assert fastest_plan({PLAN: 1.0, ONNXRUNTIME: 0.93}) == ONNXRUNTIME
    assert fastest_plan({PLAN: 1.0, TUNED: 0.9, ONNXRUNTIME: 0.95}) == TUNED
    assert fastest_plan({PLAN: 1.0}) == PLAN
    assert judge_whole({PLAN: 1.0, ONNXRUNTIME: 1.2}) is None
    assert judge_whole({PLAN: 1.0, ONNXRUNTIME: 0.93}) == "kept dense: whole model measured 0.93 of onnxruntime's speed"


# --- the estimate --------------------------------------------------------------------------------------------------


def test_what_selection_saves():
    assert estimate.saved_microseconds("u8s8", 128, 768, 768) > 30
    assert estimate.saved_microseconds("f32", 128, 768, 768) > 100
    assert estimate.saved_microseconds("f32", 512, 256, 16) < 0  # turning x and y costs more
    assert estimate.saved_microseconds("f32", 512, 16, 512) < 0
    assert estimate.saved_microseconds("f32", 512, 64, 128) > 0
    assert estimate.saved_microseconds("f32", 8, 16, 16) > 0  # few rows: nothing is turned
    assert estimate.saved_microseconds("u8s8", 1, 16, 8) < estimate.saved_microseconds("u8s8", 24, 16, 8)


def draft_of(m, n, k, rng):
    proto = model(
        [node("MatMul", ["x", "w"], ["y"], name="l")], [info("x", m, k)], [info("y", m, n)], {"w": sparse(rng, n, k).T}
    )
    prepared = prepare(ir.from_proto(proto))
    return Draft(prepared, find_layers(prepared))


def test_the_estimate_looks_at_sizes_alone(rng, monkeypatch):
    monkeypatch.setattr(estimate.isa, "cpu_features", lambda: frozenset({"avx2", "fma"}))
    kept = estimate.estimated_decisions(draft_of(60000, 16, 16, rng)).layers["y"]
    assert kept.kernel is None
    assert "kept dense: n = 16, k = 16, selection is estimated to cost" in kept.reason
    for m in (8, "rows"):  # little to lose, or nobody knows
        assert not estimate.estimated_decisions(draft_of(m, 16, 16, rng)).layers
    assert not estimate.estimated_decisions(draft_of(60000, 64, 64, rng)).layers


def test_portable_kernels_are_estimated_to_lose(rng, monkeypatch):
    monkeypatch.setattr(estimate.isa, "cpu_features", frozenset)
    kept = estimate.estimated_decisions(draft_of(8, 16, 16, rng)).layers["y"]
    assert kept.kernel is None
    assert "portable" in kept.reason


# --- the cache -----------------------------------------------------------------------------------------------------


def test_the_store_returns_what_was_written(tmp_path):
    store = Store(tmp_path / "new")
    assert store.read("layer", {"n": 8}) is None
    store.write("layer", {"n": 8}, {"a": 1})
    assert store.read("layer", {"n": 8}) == {"key": {"n": 8}, "a": 1}
    assert store.read("layer", {"n": 9}) is None
    assert store.read("model", {"n": 8}) is None
    (path,) = (tmp_path / "new").iterdir()
    assert json.loads(path.read_text())["key"] == {"n": 8}


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]", b"3", b'{"key": {"n": 9}}', b'{"a": 1}'])
def test_a_damaged_file_was_never_written(tmp_path, content):
    store = Store(tmp_path)
    store.write("layer", {"n": 8}, {"a": 1})
    (path,) = tmp_path.iterdir()
    path.write_bytes(content)
    assert store.read("layer", {"n": 8}) is None
    store.write("layer", {"n": 8}, {"a": 2})
    assert store.read("layer", {"n": 8})["a"] == 2


def test_where_nothing_can_be_written_nothing_is_kept(tmp_path):
    (tmp_path / "file").write_text("in the way")
    store = Store(tmp_path / "file" / "folder")
    store.write("layer", {"n": 8}, {"a": 1})
    assert store.read("layer", {"n": 8}) is None


def test_writers_at_once_leave_whole_files(tmp_path):
    store = Store(tmp_path)

    def work(number):
        for _ in range(30):
            store.write("layer", {"n": 8}, {"text": str(number) * 1000})
            assert set(store.read("layer", {"n": 8})["text"]) <= set("0123")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [path.suffix for path in tmp_path.iterdir()] == [".json"]


def test_decisions_survive_the_way_through_json():
    layers = {"a": LayerDecision(None, "slow", trials(1, 2, 3)), "b": LayerDecision(SPARSE, "fast")}
    for decided in (Decisions(layers), Decisions({}, "kept dense", (Trial(PLAN, 2.0),))):
        assert records.decisions(json.loads(json.dumps(records.of_decisions(decided)))) == decided


@pytest.mark.parametrize(
    "change",
    [
        {"whole": 3},
        {"layers": None},
        {"layers": {"a": None}},
        {"layers": {"a": {"kernel": 3, "reason": ""}}},
        {"layers": {"a": {"kernel": None}}},
    ],
)
def test_documents_that_are_no_decisions(change):
    assert records.decisions({**records.of_decisions(Decisions()), **change}) is None


@pytest.mark.parametrize("times", [None, [], {"a": "x"}, {"a": -1}, {"a": float("nan")}, {"a": True}, {"a": 10**400}])
def test_documents_that_are_no_trials(times):
    assert records.trials({"microseconds": times}) == ()


# --- sessions ------------------------------------------------------------------------------------------------------


@needs_jit
def test_sparse_kernels_that_win_stay(tuned, proto, rng):
    fake = FakeRace({"n2m4": 1e-5, PLAN: 1e-5})
    session = tuned(fake)
    assert [report.is_sparse for report in session.explain()] == [True, True]
    assert all(report.tried and "times as fast as onnxruntime" in report.reason for report in session.explain())
    assert {trial.candidate for trial in session.plan.tried} == {PLAN, ONNXRUNTIME}
    described = session.plan.describe()
    assert "onnxruntime 1000 us" in described
    assert "whole plans" in described
    check(session, proto, rng)


@needs_jit
def test_layers_that_lose_run_in_onnxruntime(tuned, proto, rng):
    session = tuned(FakeRace({TUNED: 1e-5, "twice": 1e-6, "apart": 2e-6, "alone": 1e-6, ONNXRUNTIME: 1e-4}))
    assert [report.kernel for report in session.explain()] == [None, None]
    assert all("kept dense: measured 1000 us sparse, 100 us" in report.reason for report in session.explain())
    assert not session.plan.is_sparse
    check(session, proto, rng)


@needs_dense
def test_layers_that_win_dense_run_on_our_dense_kernel(tuned, proto, rng):
    session = tuned(FakeRace({"dense": 1e-5, TUNED: 1e-5}))
    reports = session.explain()
    assert all("_dense_" in report.kernel and not report.is_sparse for report in reports)
    assert "kept dense: n = 8, selection costs more than it saves" in reports[0].reason
    check(session, proto, rng)


@needs_dense
def test_decisions_that_slow_the_whole_plan_down_are_not_taken(tuned, proto, rng):
    session = tuned(FakeRace({"dense": 1e-5, TUNED: 2e-3}))
    assert all(report.is_sparse and "not within the whole model" in report.reason for report in session.explain())
    check(session, proto, rng)


@needs_jit
@pytest.mark.parametrize("layers", [{"n2m4": 1e-5}, {"dense": 1e-5}])
def test_a_plan_that_loses_is_left_to_onnxruntime_as_a_whole(tuned, proto, rng, layers):
    fake = FakeRace({**layers, ONNXRUNTIME: 5e-4})
    session = tuned(fake)
    assert {report.reason for report in session.explain()} == {
        "kept dense: whole model measured 0.50 of onnxruntime's speed"
    }
    assert len(session.plan.steps) == 1
    check(session, proto, rng)
    races = len(fake.raced)
    again = tuned(fake)
    assert len(fake.raced) == races
    assert len(again.plan.steps) == 1
    assert again.explain() == session.explain()
    check(again, proto, rng)


@needs_jit
def test_decisions_are_kept(tuned, proto, rng):
    fake = FakeRace({"dense": 1e-5, TUNED: 1e-5})
    first = tuned(fake)
    races = len(fake.raced)
    for mode in ("on", "cached"):
        again = tuned(fake, mode)
        assert again.explain() == first.explain()
        assert again.plan.tried == first.plan.tried
        check(again, proto, rng)
    assert len(fake.raced) == races
    assert tuned(fake, "off").explain() != first.explain()


@needs_jit
def test_equal_layers_are_measured_once(tuned, rng):
    names = "abcd"
    weights = {f"w{name}": sparse(rng, 16, 16).T.copy() for name in names}
    nodes = [node("MatMul", [before, f"w{after}"], [after]) for before, after in itertools.pairwise(["x", *names])]
    proto = model(nodes, [info("x", 3, 16)], [info("d", 3, 16)], weights)
    fake = FakeRace({"n2m4": 1e-5, PLAN: 1e-5})
    assert all(report.tried for report in tuned(fake, source=proto).explain())
    assert len(fake.layers) == 1
    # Another model with such a layer finds it measured.
    other = model(nodes[:1], [info("x", 3, 16)], [info("a", 3, 16)], {"wa": weights["wa"]})
    assert all(report.tried for report in tuned(fake, source=other).explain())
    assert len(fake.layers) == 1


def of_many_kinds(rng, widths, rows=3):
    """A chain of layers, each of other sizes."""
    nodes, values, x = [], {}, "x"
    for number, (k, n) in enumerate(itertools.pairwise(widths)):
        nodes.append(node("MatMul", [x, f"w{number}"], [f"y{number}"]))
        values[f"w{number}"] = sparse(rng, n, k).T.copy()
        x = f"y{number}"
    return model(nodes, [info("x", rows, widths[0])], [info(x, rows, widths[-1])], values)


@needs_dense
def test_where_time_is_over_the_largest_layers_have_been_measured(tuned, rng, monkeypatch):
    """A model of any number of kinds is tuned in bounded time: here for three of twelve."""
    widths = [8, 16, 8, 24, 8, 40, 64, 16, 64, 8, 32, 8, 48]
    raced, left = [], iter([1.0, 0.5, 0.25, 0.0])

    def timed(tuning, candidates):
        raced.append(candidates)
        tuning._left = next(left)
        return dict.fromkeys(candidates, 0.001)

    monkeypatch.setattr(LayerTuning, "_time", timed)
    monkeypatch.setattr(layer_tuning, "hand_over_microseconds", lambda *_: pytest.fail("nothing wins in onnxruntime"))
    prepared = []
    ways = layer_tuning.ways_of_layer
    monkeypatch.setattr(layer_tuning, "ways_of_layer", lambda *of: prepared.append(of[1].shape) or ways(*of))
    session = tuned(FakeRace({PLAN: 1e-6}), source=of_many_kinds(rng, widths).SerializeToString())
    assert len(raced) == 4
    sizes = sorted((n * k for k, n in itertools.pairwise(widths)), reverse=True)
    assert [np.prod(shape) for shape in prepared] == sizes[:4]
    assert all("n2m4" in report.kernel for report in session.explain())


@needs_dense
def test_what_is_made_ready_for_races_is_bounded_too(tuned, rng, monkeypatch):
    clock = itertools.count()
    monkeypatch.setattr(layer_tuning, "time", SimpleNamespace(perf_counter=lambda: float(next(clock))))
    fake = FakeRace({PLAN: 1e-6})
    session = tuned(fake, source=of_many_kinds(rng, [8, 16, 24, 8, 40, 64, 16]).SerializeToString(), tuning_seconds=6)
    # Of half of 6 seconds each second is one look at the clock; races take their share, too.
    assert len(fake.layers) == 3
    assert len(session.explain()) == 6


@needs_jit
def test_later_shapes_are_not_planned_for(tuned, rng, monkeypatch):
    """The first run settles open sizes; however many shapes follow, nothing is planned or measured again."""
    planned, build = [], tuner.build_plan
    monkeypatch.setattr(tuner, "build_plan", lambda *of: planned.append(of) or build(*of))
    fake = FakeRace({PLAN: 1e-6})
    proto = of_many_kinds(rng, [16, 8, 24], "rows")
    session = tuned(fake, source=proto.SerializeToString())
    session.run(None, {"x": normal(rng, 3, 16)})
    before = len(planned), len(fake.raced)
    for rows in range(1, 40):
        x = normal(rng, rows, 16)
        np.testing.assert_allclose(session.run(None, {"x": x})[0], stock(proto, {"x": x})[0], rtol=1e-4, atol=1e-5)
    assert (len(planned), len(fake.raced)) == before


@needs_jit
@pytest.mark.parametrize("damage", ["remove", "cut", "nonsense"])
def test_a_cache_that_is_lost_is_made_again(tuned, damage):
    fake = FakeRace({"n2m4": 1e-5, PLAN: 1e-5})
    reports = tuned(fake).explain()
    races = len(fake.raced)
    for path in tuned.folder.iterdir():
        content = path.read_text()
        if damage == "remove":
            path.unlink()
        else:
            path.write_text(content[:-9] if damage == "cut" else content.replace("reason", "raison"))
    assert tuned(fake).explain() == reports
    # Measurements of layers hold no reason and stay valid.
    assert len(fake.raced) - races == (1 if damage == "nonsense" else races)


@needs_jit
def test_other_versions_measure_again(tuned, monkeypatch):
    fake = FakeRace({"n2m4": 1e-5, PLAN: 1e-5})
    tuned(fake)
    races = len(fake.raced)
    for number, (owner, name, value) in enumerate(
        [
            (keys.ort, "__version__", "0.1"),
            (keys, "_planning", lambda: "x"),
            (keys.compilation, "cache_key", lambda: "y"),
        ],
        2,
    ):
        with monkeypatch.context() as changed:
            changed.setattr(owner, name, value)
            tuned(fake)
            assert len(fake.raced) == number * races
    tuned(fake)
    assert len(fake.raced) == 4 * races
    for other in [name for name in isa.TIERS if name != isa.tier() and isa.fits(name, isa.cpu_features())][:1]:
        tuned(fake, kernel_tier=other)
        assert len(fake.raced) > 4 * races


@needs_jit
def test_nothing_is_measured_but_on(tuned, proto, rng):
    fake = FakeRace()
    for mode in ("cached", "off", "sparse"):
        session = tuned(fake, mode)
        check(session, proto, rng)
        assert not any(report.tried for report in session.explain())
    assert not fake.raced
    assert not tuned.folder.exists()
    assert [report.is_sparse for report in session.explain()] == [True, True]


@needs_jit
@pytest.mark.parametrize("form", ["path", "bytes"])
def test_open_sizes_are_settled_by_the_first_run(tuned, proto, rng, tmp_path, form):
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "rows"
    proto.graph.output[0].type.tensor_type.shape.dim[0].dim_param = "rows"
    source = proto.SerializeToString()
    if form == "path":
        (tmp_path / "m.onnx").write_bytes(source)
        source = str(tmp_path / "m.onnx")
    fake = FakeRace({"n2m4": 1e-5, ONNXRUNTIME: 5e-4})
    session = tuned(fake, source=source)
    assert not fake.raced
    assert session.plan.is_sparse
    check(session, proto, rng)
    assert not session.plan.is_sparse
    assert "whole model" in session.explain()[0].reason
    races = len(fake.raced)
    check(session, proto, rng)
    # The next session with such feeds finds it; other sizes are other measurements.
    for rows, more in ((3, 0), (5, races)):
        again = tuned(fake, source=source)
        again.run(None, {"x": normal(rng, rows, 16)})
        assert not again.plan.is_sparse
        assert len(fake.raced) == races + more
    cached = tuned(fake, "cached", source=source)
    assert cached.plan.is_sparse
    check(cached, proto, rng)
    assert not cached.plan.is_sparse
    cached = tuned(fake, "cached", source=source)
    cached.run(None, {"x": normal(rng, 7, 16)})
    assert cached.plan.is_sparse


@needs_jit
def test_a_first_run_that_changes_nothing_does_not_plan_again(tuned, proto, rng, monkeypatch):
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "rows"
    source = proto.SerializeToString()
    fake = FakeRace({"n2m4": 1e-5, PLAN: 1e-5})
    first = tuned(fake, source=source)
    check(first, proto, rng)
    again = tuned(fake, source=source)
    monkeypatch.setattr(tuner, "build_plan", None)
    check(again, proto, rng)
    assert again.explain() == first.explain()
    assert again.explain()[0].tried
    assert again.plan.tried == first.plan.tried


@needs_jit
def test_a_file_that_changed_before_the_first_run_is_not_read_again(tuned, proto, rng, tmp_path):
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "rows"
    path = tmp_path / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    fake = FakeRace()
    session = tuned(fake, source=path)
    path.write_bytes(b"something else")
    check(session, proto, rng)
    assert not fake.raced


@needs_jit
def test_open_sizes_of_a_proto_are_guessed(tuned, proto, rng):
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "rows"
    fake = FakeRace({"n2m4": 1e-5, PLAN: 1e-5})
    session = tuned(fake)
    assert fake.raced
    assert session.explain()[0].tried
    check(session, proto, rng)


@needs_jit
def test_feeds_that_cannot_be_run_measure_nothing(tuned, rng):
    table = sparse(rng, 8, 16).T.copy()
    nodes = [node("Gather", ["t", "i"], ["a"]), node("MatMul", ["a", "w"], ["y"])]
    ids = info("i", 3, kind=INT64)
    proto = model(nodes, [ids], [info("y", 3, 8)], {"t": normal(rng, 1, 16), "w": table})
    fake = FakeRace()
    session = tuned(fake, source=proto)  # random indexes are 0 or 1, and the table has one row
    assert not fake.raced
    assert session.run(None, {"i": np.zeros(3, np.int64)})[0].shape == (3, 8)


def open_convolution(rng, form):
    """A padded 3x3 convolution whose batch and image are open; float32, or between QuantizeLinear and its inverse."""
    nodes = [node("Conv", ["x", "w"], ["y"], name="conv", pads=[1, 1, 1, 1])]
    weight = sparse(rng, 16, 8, 3, 3)
    proto = model(nodes, [info("x", "N", 8, "H", "W")], [info("y", None, None, None, None)], {"w": weight})
    feeds = {"x": normal(rng, 2, 8, 9, 11)}
    return (quantise_static(proto, [feeds]) if form == "int8" else proto), feeds


@needs_dense
@pytest.mark.parametrize("form", ["float32", "int8"])
@pytest.mark.parametrize("source", ["proto", "bytes"])
def test_a_dense_kernel_is_packed_as_it_wants_where_sizes_are_open(tuned, rng, form, source, monkeypatch):
    proto, feeds = open_convolution(rng, form)
    monkeypatch.setattr(warm_up, "_warm", set())  # what another test has warmed up is not tried again
    for race_ in (FakeRace({"dense": 1e-5, TUNED: 1e-5}), no_race):
        session = tuned(race_, source=proto if source == "proto" else proto.SerializeToString())
        for _ in range(2):
            (y,) = session.run(None, feeds)
            np.testing.assert_allclose(y, stock(proto, feeds)[0], rtol=1e-4, atol=1e-5)
        assert "_dense_" in session.explain()[0].kernel


@needs_jit
@pytest.mark.parametrize("size", ["rows", 3])
@pytest.mark.parametrize("candidate", ["n2m4", "dense", "whole"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text.replace("__avx", "__sse").replace("__generic", "__sse"),  # a kernel of another machine
        lambda text: text.replace('"a": {', '"nobody": {'),  # a layer of another model
        lambda text: text.replace('"kernel": "', '"kernel": "f32_other'),
        lambda text: text.replace('"whole": "', '"whole": 3, "other": "'),
        lambda text: text.replace('"layers": {', '"layers": [], "other": {'),
        lambda text: "[" * 100_000,
    ],
)
def test_kept_decisions_that_cannot_be_carried_out_cost_only_time(tuned, proto, rng, size, candidate, damage):
    proto.graph.input[0].type.tensor_type.shape.dim[0].Clear()
    dimension = proto.graph.input[0].type.tensor_type.shape.dim[0]
    setattr(dimension, "dim_param" if size == "rows" else "dim_value", size)
    source = proto.SerializeToString()
    times = {ONNXRUNTIME: 5e-4} if candidate == "whole" else {candidate: 1e-5, TUNED: 1e-5}
    check(tuned(FakeRace(times), source=source), proto, rng)
    for path in tuned.folder.glob("model-*.json"):
        path.write_text(damage(path.read_text()))
    for mode in ("cached", "on"):
        check(tuned(FakeRace(times), mode, source=source), proto, rng)


@needs_dense
@pytest.mark.parametrize("size", ["rows", 3])
def test_a_kept_plan_that_cannot_be_built_is_measured_again(tuned, proto, rng, size, monkeypatch):
    proto.graph.input[0].type.tensor_type.shape.dim[0].Clear()
    dimension = proto.graph.input[0].type.tensor_type.shape.dim[0]
    setattr(dimension, "dim_param" if size == "rows" else "dim_value", size)
    source = proto.SerializeToString()
    fake = FakeRace({"dense": 1e-5, TUNED: 1e-5})
    check(tuned(fake, source=source), proto, rng)
    build, failed = tuner.build_plan, []

    def fails_once(source, options, decide):
        def deciding(draft):
            decided = decide(draft)
            if decided.layers and not failed:
                failed.append(decided)
                raise KeyError("a kernel that is gone")
            return decided

        return build(source, options, deciding)

    monkeypatch.setattr(tuner, "build_plan", fails_once)
    races = len(fake.raced)
    session = tuned(fake, source=source)
    check(session, proto, rng)
    assert failed
    assert len(fake.raced) > races
    assert "_dense_" in session.explain()[0].kernel


@needs_dense
def test_a_tuned_plan_that_cannot_be_built_is_told_and_does_not_win(tuned, proto, rng, monkeypatch):
    build = tuner.build_plan

    def fails(source, options, decide):
        def deciding(draft):
            decided = decide(draft)
            if decided.layers and decided.whole is None:
                raise ValueError("packed wrongly")
            return decided

        return build(source, options, deciding)

    monkeypatch.setattr(tuner, "build_plan", fails)
    with pytest.warns(srt.SparseRTWarning, match="packed wrongly"):
        session = tuned(FakeRace({"dense": 1e-5, TUNED: 1e-5}))
    check(session, proto, rng)
    assert all(report.is_sparse for report in session.explain())


@needs_jit
def test_a_model_without_sparse_layers_is_not_measured(tuned, rng):
    fake = FakeRace()
    proto = model([node("MatMul", ["x", "w"], ["y"])], [info("x", 3, 16)], [info("y", 3, 8)], {"w": normal(rng, 16, 8)})
    tuned(fake, source=proto)
    assert not fake.raced


def test_options_of_tuning(monkeypatch):
    options = srt.SessionOptions(tuning="off", tuning_seconds=1)
    assert (options.copy().tuning, options.copy().tuning_seconds) == ("off", 1)
    for name, value in [("tuning", "maybe"), ("tuning", 1), ("tuning_seconds", -1), ("tuning_seconds", "long")]:
        with pytest.raises(srt.ConfigError, match=name):
            srt.SessionOptions(**{name: value})
    if not config.DISABLE_JIT:
        monkeypatch.setenv("SPARSE_RT_TUNING", "off")
        assert srt.SessionOptions().tuning_mode == "off"
        assert srt.SessionOptions(tuning="on").tuning_mode == "on"
        monkeypatch.setenv("SPARSE_RT_TUNING", "maybe")
        with pytest.raises(srt.ConfigError, match="SPARSE_RT_TUNING"):
            assert srt.SessionOptions().tuning_mode


def test_reports_become_documents():
    report = srt.LayerReport("l", "MatMul", (8, 4), "2:4", 0.5, "int8", None, "r", 1, 1, trials(1, 2, 3))
    document = json.loads(json.dumps(dataclasses.asdict(report)))
    assert document["tried"][0] == {"candidate": SPARSE, "microseconds": 1}
