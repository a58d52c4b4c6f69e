"""Whole plans: what is fastest as a whole runs."""

import pytest

import sparse_rt as srt
from sparse_rt.tuning import measure_plan, tuner
from sparse_rt.tuning.decide import HOSTED, PLAN, TUNED
from sparse_rt.tuning.measure_layer import ONNXRUNTIME
from tests.models.forced_measurements import FakeMeasure, check, needs_dense, needs_jit


@needs_dense
def test_decisions_that_slow_the_whole_plan_down_are_not_taken(tuned, proto, rng):
    session = tuned(FakeMeasure({"dense": 1e-5, TUNED: 2e-3}))
    assert all(report.is_sparse and "not within the whole model" in report.reason for report in session.explain())
    check(session, proto, rng)


@needs_jit
@pytest.mark.parametrize("layers", [{"n2m4": 1e-5}, {"dense": 1e-5}])
def test_a_plan_that_loses_is_left_to_onnxruntime_as_a_whole(tuned, proto, rng, layers):
    fake = FakeMeasure({**layers, ONNXRUNTIME: 5e-4})
    session = tuned(fake)
    assert {report.reason for report in session.explain()} == {
        "kept dense: whole model measured 0.50 of onnxruntime's speed"
    }
    assert len(session.plan.steps) == 1
    check(session, proto, rng)
    before = len(fake.measured)
    again = tuned(fake)
    assert len(fake.measured) == before
    assert len(again.plan.steps) == 1
    assert again.explain() == session.explain()
    check(again, proto, rng)


@needs_dense
def test_a_tuned_plan_that_cannot_be_built_is_told_and_does_not_win(tuned, proto, rng, monkeypatch):
    build = tuner.build_plan

    def fails(source, options, decide, host):
        def deciding(draft):
            decided = decide(draft)
            if decided.layers and decided.whole is None:
                raise ValueError("packed wrongly")
            return decided

        return build(source, options, deciding, host)

    monkeypatch.setattr(tuner, "build_plan", fails)
    with pytest.warns(srt.SparseRTWarning, match="packed wrongly"):
        session = tuned(FakeMeasure({"dense": 1e-5, TUNED: 1e-5}))
    check(session, proto, rng)
    assert all(report.is_sparse for report in session.explain())


@needs_dense
@pytest.mark.parametrize("layers", [{"n2m4": 1e-5}, {"dense": 1e-5}])
def test_a_hosted_plan_that_wins_runs_and_is_kept(tuned, proto, rng, layers):
    fake = FakeMeasure({**layers, HOSTED: 1e-4})
    session = tuned(fake)
    assert session.plan.is_hosted
    why = "; inside onnxruntime: whole model measured 10.00 times as fast as apart from it"
    assert all(report.reason.endswith(why) and report.tried for report in session.explain())
    assert "dense" not in layers or any("_dense_" in report.kernel for report in session.explain())
    assert "hosted 100 us" in session.plan.describe()
    check(session, proto, rng)
    before = len(fake.measured)
    for mode in ("on", "cached"):
        again = tuned(fake, mode)
        assert again.plan.is_hosted
        assert again.explain() == session.explain()
        assert again.plan.tried == session.plan.tried
        check(again, proto, rng)
    assert len(fake.measured) == before


@needs_jit
def test_inside_onnxruntime_a_layer_is_charged_no_hand_over(tuned, proto, rng):
    """Apart, 100 us are less than what a layer saves there; inside, leaving it to onnxruntime costs its time alone."""
    fake = FakeMeasure({HOSTED: 1e-4, ONNXRUNTIME: 9e-4, "twice": 1e-6, "apart": 3e-4, "alone": 1e-6})
    session = tuned(fake)
    # No layer of ours is left for onnxruntime to host.
    assert not session.plan.is_hosted
    assert {trial.candidate for trial in session.plan.tried} == {PLAN, TUNED, ONNXRUNTIME}
    check(session, proto, rng)


@needs_jit
@pytest.mark.parametrize("longest", [0.0, 60.0])
def test_without_islands_a_plan_may_be_hosted_if_its_runs_are_short(tuned, proto, longest, monkeypatch):
    monkeypatch.setattr(measure_plan, "_SHORT_RUN", longest)
    del proto.graph.node[-1]
    proto.graph.node[-1].output[0] = "y"
    session = tuned(FakeMeasure({HOSTED: 1e-6}))
    assert session.plan.is_hosted == (longest > 0)
