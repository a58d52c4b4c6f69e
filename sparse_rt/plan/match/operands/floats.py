"""Operands of float kernels."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_rt.plan.match.fusion import Fusion
from sparse_rt.plan.match.operands.bias import real_bias, with_fused
from sparse_rt.plan.match.operands.record import Operands, Refusal
from sparse_rt.plan.match.operands.scales import number, unusual, weight_scale
from sparse_rt.plan.steps.epilogues import float_epilogue

__all__ = ["float_operands"]


def float_operands(fusion: Fusion, values: NDArray[Any]) -> Operands | Refusal:
    """Return what a float kernel multiplies by and adds, or why none does."""
    layer = fusion.layer
    weight = _real(fusion, values)
    if isinstance(weight, Refusal):
        return weight
    alpha = number(layer, "alpha")
    for factor in (None if alpha == 1 else alpha, fusion.multiplier):
        if factor is not None:
            scaled = _scaled(weight, factor)
            if scaled is None:
                return Refusal("weights times the factors that follow leave the range of float32")
            weight = scaled
    bias = real_bias(layer)
    if isinstance(bias, Refusal):
        return bias
    epilogue = float_epilogue(layer.shape[0], with_fused(fusion, bias.real), fusion.low, fusion.high)
    real = np.dtype(np.float32)
    return Operands("f32", weight, epilogue, real, real)


def _real(fusion: Fusion, values: NDArray[Any]) -> NDArray[np.float32] | Refusal:
    """Return the weights as DequantizeLinear makes them; a scale is of one output channel, so zeros stay zeros."""
    if fusion.layer.form != "qdq":
        return values if values.dtype == np.float32 else Refusal(f"no kernel for {values.dtype} weights")
    scale = weight_scale(fusion.layer)
    if isinstance(scale, Refusal):
        return scale
    return unusual(scale) or np.ascontiguousarray(values.astype(np.float32) * scale[:, None])


def _scaled(values: NDArray[np.float32], factor: NDArray[np.float32] | np.float32) -> NDArray[np.float32] | None:
    """Return the weights times a factor that the model applies to sums of products, which may be of another size.

    None where that loses digits.
    """
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        factors = np.reshape(factor, (-1, 1))
        scaled: NDArray[np.float32] = values * factors
    sizes = np.abs(scaled)
    lost = (values != 0) & (factors != 0) & ~((sizes >= np.finfo(np.float32).tiny) & (sizes < np.inf))
    return None if lost.any() and np.isfinite(values).all() else scaled
