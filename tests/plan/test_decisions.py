"""What decisions say of a layer: its own, or that onnxruntime runs the whole model."""

from sparse_rt.plan.decisions import Decisions, LayerDecision
from sparse_rt.plan.report import Trial

OWN = LayerDecision("kernel", "faster", (Trial("kernel", 1.0),))


def test_a_layer_without_a_decision_has_none():
    assert Decisions({"y": OWN}).of("y") is OWN
    assert Decisions({"y": OWN}).of("z") is None


def test_a_whole_model_in_onnxruntime_overrules_and_keeps_what_was_tried():
    whole = Decisions({"y": OWN}, whole="the whole is faster")
    assert whole.of("y") == LayerDecision(None, "the whole is faster", OWN.tried)
    assert whole.of("z") == LayerDecision(None, "the whole is faster")
