"""Decisions and measurements on their way through JSON."""

import json

import pytest

from sparse_rt.plan.decisions import Decisions, LayerDecision
from sparse_rt.plan.report import Trial
from sparse_rt.tuning import records
from sparse_rt.tuning.decide import PLAN

SPARSE = "f32_n2m4_gemm_4x4__avx512"


def test_decisions_survive_the_way_through_json():
    layers = {
        "a": LayerDecision(None, "slow", (Trial(SPARSE, 1), Trial("onnxruntime", 3))),
        "b": LayerDecision(SPARSE, "fast"),
    }
    for decided in (Decisions(layers), Decisions({}, "kept dense", (Trial(PLAN, 2.0),)), Decisions(hosted="inside")):
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
