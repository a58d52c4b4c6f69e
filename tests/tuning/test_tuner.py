"""Sessions whose measurements are made up: what they decide, keep and find again."""

import numpy as np
import pytest

from benchmarks.models.quantise import quantise_static
from sparse_rt.plan import warm_up
from sparse_rt.tuning import tuner
from sparse_rt.tuning.decide import HOSTED, PLAN, TUNED
from sparse_rt.tuning.measure_layer import ONNXRUNTIME
from tests.models.forced_measurements import FakeMeasure, check, needs_dense, needs_jit, no_measure
from tests.models.onnx_models import INT64, info, model, node, normal, sparse, stock


@needs_jit
def test_sparse_kernels_that_win_stay(tuned, proto, rng):
    fake = FakeMeasure({"n2m4": 1e-5, PLAN: 1e-5})
    session = tuned(fake)
    assert [report.is_sparse for report in session.explain()] == [True, True]
    assert all(report.tried and "times as fast as onnxruntime" in report.reason for report in session.explain())
    assert {trial.candidate for trial in session.plan.tried} == {PLAN, HOSTED, ONNXRUNTIME}
    described = session.plan.describe()
    assert "onnxruntime 1000 us" in described
    assert "whole plans" in described
    check(session, proto, rng)


@needs_jit
def test_layers_that_lose_run_in_onnxruntime(tuned, proto, rng):
    session = tuned(FakeMeasure({TUNED: 1e-5, "twice": 1e-6, "apart": 2e-6, "alone": 1e-6, ONNXRUNTIME: 1e-4}))
    assert [report.kernel for report in session.explain()] == [None, None]
    assert all("kept dense: measured 1000 us sparse, 100 us" in report.reason for report in session.explain())
    assert not session.plan.is_sparse
    check(session, proto, rng)


@needs_dense
def test_layers_that_win_dense_run_on_our_dense_kernel(tuned, proto, rng):
    session = tuned(FakeMeasure({"dense": 1e-5, TUNED: 1e-5}))
    reports = session.explain()
    assert all("_dense_" in report.kernel and not report.is_sparse for report in reports)
    assert "kept dense: n = 8, selection costs more than it saves" in reports[0].reason
    check(session, proto, rng)


@needs_jit
def test_decisions_are_kept(tuned, proto, rng):
    fake = FakeMeasure({"dense": 1e-5, TUNED: 1e-5})
    first = tuned(fake)
    before = len(fake.measured)
    for mode in ("on", "cached"):
        again = tuned(fake, mode)
        assert again.explain() == first.explain()
        assert again.plan.tried == first.plan.tried
        check(again, proto, rng)
    assert len(fake.measured) == before
    assert tuned(fake, "off").explain() != first.explain()


@needs_jit
def test_later_shapes_are_not_planned_for(tuned, proto, rng, monkeypatch):
    """The first run settles open sizes; however many shapes follow, nothing is planned or measured again."""
    planned, build = [], tuner.build_plan
    monkeypatch.setattr(tuner, "build_plan", lambda *of: planned.append(of) or build(*of))
    fake = FakeMeasure({PLAN: 1e-6})
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "rows"
    proto.graph.output[0].type.tensor_type.shape.dim[0].dim_param = "rows"
    session = tuned(fake, source=proto.SerializeToString())
    session.run(None, {"x": normal(rng, 3, 16)})
    before = len(planned), len(fake.measured)
    for rows in range(1, 40):
        x = normal(rng, rows, 16)
        np.testing.assert_allclose(session.run(None, {"x": x})[0], stock(proto, {"x": x})[0], rtol=1e-4, atol=1e-5)
    assert (len(planned), len(fake.measured)) == before


@needs_jit
@pytest.mark.parametrize("damage", ["remove", "cut", "nonsense"])
def test_a_cache_that_is_lost_is_made_again(tuned, damage):
    fake = FakeMeasure({"n2m4": 1e-5, PLAN: 1e-5})
    reports = tuned(fake).explain()
    before = len(fake.measured)
    for path in tuned.folder.iterdir():
        content = path.read_text()
        if damage == "remove":
            path.unlink()
        else:
            path.write_text(content[:-9] if damage == "cut" else content.replace("reason", "raison"))
    assert tuned(fake).explain() == reports
    # Measurements of layers hold no reason and stay valid.
    assert len(fake.measured) - before == (1 if damage == "nonsense" else before)


@needs_jit
def test_nothing_is_measured_but_on(tuned, proto, rng):
    fake = FakeMeasure()
    for mode in ("cached", "off", "sparse"):
        session = tuned(fake, mode)
        check(session, proto, rng)
        assert not any(report.tried for report in session.explain())
    assert not fake.measured
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
    fake = FakeMeasure({"n2m4": 1e-5, ONNXRUNTIME: 5e-4})
    session = tuned(fake, source=source)
    assert not fake.measured
    assert session.plan.is_sparse
    check(session, proto, rng)
    assert not session.plan.is_sparse
    assert "whole model" in session.explain()[0].reason
    before = len(fake.measured)
    check(session, proto, rng)
    # The next session with such feeds finds it; other sizes are other measurements.
    for rows, more in ((3, 0), (5, before)):
        again = tuned(fake, source=source)
        again.run(None, {"x": normal(rng, rows, 16)})
        assert not again.plan.is_sparse
        assert len(fake.measured) == before + more
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
    fake = FakeMeasure({"n2m4": 1e-5, PLAN: 1e-5})
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
    fake = FakeMeasure()
    session = tuned(fake, source=path)
    path.write_bytes(b"something else")
    check(session, proto, rng)
    assert not fake.measured


@needs_jit
def test_open_sizes_of_a_proto_are_guessed(tuned, proto, rng):
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "rows"
    fake = FakeMeasure({"n2m4": 1e-5, PLAN: 1e-5})
    session = tuned(fake)
    assert fake.measured
    assert session.explain()[0].tried
    check(session, proto, rng)


@needs_jit
def test_feeds_that_cannot_be_run_measure_nothing(tuned, rng):
    table = sparse(rng, 8, 16).T.copy()
    nodes = [node("Gather", ["t", "i"], ["a"]), node("MatMul", ["a", "w"], ["y"])]
    ids = info("i", 3, kind=INT64)
    proto = model(nodes, [ids], [info("y", 3, 8)], {"t": normal(rng, 1, 16), "w": table})
    fake = FakeMeasure()
    session = tuned(fake, source=proto)  # random indexes are 0 or 1, and the table has one row
    assert not fake.measured
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
    for measure_ in (FakeMeasure({"dense": 1e-5, TUNED: 1e-5}), no_measure):
        session = tuned(measure_, source=proto if source == "proto" else proto.SerializeToString())
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
    check(tuned(FakeMeasure(times), source=source), proto, rng)
    for path in tuned.folder.glob("model-*.json"):
        path.write_text(damage(path.read_text()))
    for mode in ("cached", "on"):
        check(tuned(FakeMeasure(times), mode, source=source), proto, rng)


@needs_dense
@pytest.mark.parametrize("size", ["rows", 3])
def test_a_kept_plan_that_cannot_be_built_is_measured_again(tuned, proto, rng, size, monkeypatch):
    proto.graph.input[0].type.tensor_type.shape.dim[0].Clear()
    dimension = proto.graph.input[0].type.tensor_type.shape.dim[0]
    setattr(dimension, "dim_param" if size == "rows" else "dim_value", size)
    source = proto.SerializeToString()
    fake = FakeMeasure({"dense": 1e-5, TUNED: 1e-5})
    check(tuned(fake, source=source), proto, rng)
    build, failed = tuner.build_plan, []

    def fails_once(source, options, decide, host):
        def deciding(draft):
            decided = decide(draft)
            if decided.layers and not failed:
                failed.append(decided)
                raise KeyError("a kernel that is gone")
            return decided

        return build(source, options, deciding, host)

    monkeypatch.setattr(tuner, "build_plan", fails_once)
    before = len(fake.measured)
    session = tuned(fake, source=source)
    check(session, proto, rng)
    assert failed
    assert len(fake.measured) > before
    assert "_dense_" in session.explain()[0].kernel


@needs_jit
def test_a_model_without_sparse_layers_is_not_measured(tuned, rng):
    fake = FakeMeasure()
    proto = model([node("MatMul", ["x", "w"], ["y"])], [info("x", 3, 16)], [info("y", 3, 8)], {"w": normal(rng, 16, 8)})
    tuned(fake, source=proto)
    assert not fake.measured
