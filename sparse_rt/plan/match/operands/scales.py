"""Scales, and other numbers that a layer's products are multiplied by."""

from typing import Any, Final

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from sparse_rt.graph.layers.layer import Layer
from sparse_rt.graph.layers.weights import constant_array
from sparse_rt.plan.match.constants import is_scale, scalar
from sparse_rt.plan.match.operands.record import Refusal

__all__ = ["activation_scale", "number", "unusual", "weight_scale"]

_LEAST_SCALE: Final = np.float32(2.0**-60)


def number(layer: Layer, name: str) -> np.float32:
    """Return a factor that is an attribute, 1 where it is none."""
    value = layer.attributes.get(name)
    return np.float32(value) if isinstance(value, int | float) else np.float32(1)


def activation_scale(value: ir.Value | None, operand: str) -> np.float32 | Refusal:
    """Return the constant scale of an activation; `operand` is what to call it."""
    found = scalar(constant_array(value))
    if found is None or not is_scale(found):
        return Refusal(f"the scale of {operand} is not one positive float32 constant")
    return np.float32(found)


def weight_scale(layer: Layer) -> NDArray[np.float32] | Refusal:
    """Return the weight's scale as (n,) float32."""
    scale = layer.weight_scale
    if scale is None or scale.dtype != np.float32 or scale.size not in (1, layer.shape[0]):
        return Refusal("the scale of the weight is not a float32 constant")
    return np.broadcast_to(scale.reshape(-1), (layer.shape[0],)).copy()


def unusual(*scales: np.float32 | NDArray[Any] | None) -> Refusal | None:
    """Refuse scales, or factors, between which and 255 a product may leave float32 or lose digits."""
    for scale in scales:
        sizes = np.abs(np.float32(1) if scale is None else scale)
        if not ((sizes == 0) | ((sizes >= _LEAST_SCALE) & (sizes <= 1 / _LEAST_SCALE))).all():
            return Refusal("scales so large or so small that float32 does not hold their products")
    return None
