"""Whole plans: what is fastest as a whole runs."""

import pytest

import sparse_rt as srt
from sparse_rt.tuning import tuner
from sparse_rt.tuning.decide import TUNED
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

    def fails(source, options, decide):
        def deciding(draft):
            decided = decide(draft)
            if decided.layers and decided.whole is None:
                raise ValueError("packed wrongly")
            return decided

        return build(source, options, deciding)

    monkeypatch.setattr(tuner, "build_plan", fails)
    with pytest.warns(srt.SparseRTWarning, match="packed wrongly"):
        session = tuned(FakeMeasure({"dense": 1e-5, TUNED: 1e-5}))
    check(session, proto, rng)
    assert all(report.is_sparse for report in session.explain())
