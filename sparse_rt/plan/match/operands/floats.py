"""Operands of float kernels."""

import numpy as np

from sparse_rt.formats import Weight
from sparse_rt.plan.match.fusion import Fusion
from sparse_rt.plan.match.operands.bias import real_bias, with_fused
from sparse_rt.plan.match.operands.record import Operands, Refusal
from sparse_rt.plan.match.operands.scales import number, unusual, weight_scale
from sparse_rt.plan.steps.requantisation import float_epilogue

__all__ = ["float_operands"]

_OUT_OF_RANGE = Refusal("weights times the factors that follow leave the range of float32")


def float_operands(fusion: Fusion, weight: Weight) -> Operands | Refusal:
    """Return what a float kernel multiplies by and adds, or why none does."""
    layer = fusion.layer
    found = _real(fusion, weight)
    alpha = number(layer, "alpha")
    # The model applies them to sums of products, which may be of another size.
    for factor in (None if alpha == 1 else alpha, fusion.multiplier):
        if factor is not None and not isinstance(found, Refusal):
            found = found.scaled(np.broadcast_to(factor, layer.shape[:1])) or _OUT_OF_RANGE
    if isinstance(found, Refusal):
        return found
    bias = real_bias(layer)
    if isinstance(bias, Refusal):
        return bias
    epilogue = float_epilogue(layer.shape[0], with_fused(fusion, bias.real), fusion.low, fusion.high)
    real = np.dtype(np.float32)
    return Operands("f32", found, epilogue, real, real)


def _real(fusion: Fusion, weight: Weight) -> Weight | Refusal:
    """Return the weight as DequantizeLinear makes it; a scale is of one output channel, so zeros stay zeros."""
    if fusion.layer.form != "qdq":
        return weight if weight.dtype == np.float32 else Refusal(f"no kernel for {weight.dtype} weights")
    scale = weight_scale(fusion.layer)
    if isinstance(scale, Refusal):
        return scale
    return unusual(scale) or weight.scaled(scale) or _OUT_OF_RANGE
