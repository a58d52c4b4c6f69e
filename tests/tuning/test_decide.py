"""Decisions are functions of figures; here the figures are made up."""

import pytest

from sparse_rt.plan.report import Trial
from sparse_rt.tuning.decide import PLAN, TUNED, decide_layer, decide_whole, fastest_plan
from sparse_rt.tuning.measure_layer import ONNXRUNTIME

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
    decision = decide_layer(SPARSE, "2:4", 24, trials(*times), hand_over)
    assert decision.kernel == kernel
    assert words in decision.reason
    assert decision.tried == trials(*times)


def test_a_layer_without_other_candidates_is_sparse():
    assert decide_layer(SPARSE, "2:4", 24, trials(50, 1, 1)[:1], 0).kernel == SPARSE


def test_the_whole_model_goes_where_it_is_fastest():
    assert fastest_plan({PLAN: 1.0, ONNXRUNTIME: 1.01}) == PLAN
    assert fastest_plan({PLAN: 1.0, ONNXRUNTIME: 1.0}) == PLAN
    assert fastest_plan({PLAN: 1.0, TUNED: 0.995, ONNXRUNTIME: 1.0}) == PLAN
    assert fastest_plan({PLAN: 1.0, ONNXRUNTIME: 0.93}) == ONNXRUNTIME
    assert fastest_plan({PLAN: 1.0, TUNED: 0.9, ONNXRUNTIME: 0.95}) == TUNED
    assert fastest_plan({PLAN: 1.0}) == PLAN
    assert decide_whole({PLAN: 1.0, ONNXRUNTIME: 1.2}) is None
    assert (
        decide_whole({PLAN: 1.0, ONNXRUNTIME: 0.93}) == "kept dense: whole model measured 0.93 of onnxruntime's speed"
    )


def test_reasons_name_the_pattern_that_the_weight_holds():
    for tried in (trials(50, 60, 90), trials(50, 1, 1)[:1]):
        assert decide_layer(SPARSE, "16x4", 24, tried, 0).reason.startswith("16x4 holds; measured")
