"""What a layer's kernel multiplies by and finishes with: weight, epilogue, dtypes, in floats or in integers."""

from sparse_rt.formats import Weight
from sparse_rt.plan.match.fusion import Fusion
from sparse_rt.plan.match.operands.floats import float_operands
from sparse_rt.plan.match.operands.integers import integer_operands
from sparse_rt.plan.match.operands.record import Operands, Refusal

__all__ = ["Operands", "Refusal", "operands"]


def operands(fusion: Fusion, weight: Weight) -> Operands | Refusal:
    """Return the operands of a layer with a weight, in whatever format.

    Where no kernel computes such a layer, the reason is returned.
    """
    layer = fusion.layer
    if layer.attributes.get("activation"):
        return Refusal(f"no standard operator is known for the activation '{layer.attributes['activation']}'")
    if layer.form == "dynamic":
        return Refusal("the model's opset has no DynamicQuantizeLinear")
    if layer.form == "float" or (layer.form == "qdq" and fusion.x_quantised is None):
        return float_operands(fusion, weight)
    return integer_operands(fusion, weight)
