"""A layer's own bias, as a value for each output channel."""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparse_rt.graph.layers.layer import Layer
from sparse_rt.graph.layers.weights import constant_array
from sparse_rt.plan.match.constants import float_constant, per_channel
from sparse_rt.plan.match.fusion import Fusion, channel_position
from sparse_rt.plan.match.operands.record import Refusal
from sparse_rt.plan.match.operands.scales import number

__all__ = ["Bias", "real_bias", "stored_bias", "with_fused"]

#: Operators of the qlinear form whose bias is no int32.
_FLOAT_BIAS: Final = ("MatMulIntegerToFloat", "DynamicQuantizeMatMul")


class Bias(NamedTuple):
    """A bias (n,): in units of the accumulator, or else in real units; both None for none."""

    integer: NDArray[np.int64] | None = None
    real: NDArray[np.float32] | None = None


def real_bias(layer: Layer) -> Bias | Refusal:
    """Return the bias of a layer of floats."""
    if layer.bias is None:
        return Bias()
    constant = float_constant(layer.bias)
    if constant is None:
        return Refusal("the bias is not a float32 constant")
    values = per_channel(constant, layer.shape[0], *_position(layer))
    if values is None:
        return Refusal(f"the bias {constant.shape} is not one value for each output channel")
    beta = number(layer, "beta")
    return Bias(real=values if beta == 1 else values * beta)


def stored_bias(layer: Layer, accumulator_scale: NDArray[np.float32]) -> Bias | Refusal:
    """Return the bias of a layer of integers, whose accumulators count in `accumulator_scale`, (n,)."""
    if layer.bias is None:
        return Bias()
    stored = _int32(layer, accumulator_scale)
    if stored is not None and number(layer, "beta") == 1:
        values = per_channel(stored, layer.shape[0], *_position(layer))
        if values is None:
            return Refusal(f"the bias {stored.shape} is not one value for each output channel")
        return Bias(integer=values.astype(np.int64))
    if layer.form == "qlinear" and layer.op_type not in _FLOAT_BIAS:
        return Refusal("the bias is not an int32 constant")
    return real_bias(layer)


def with_fused(fusion: Fusion, bias: NDArray[np.float32] | None) -> NDArray[np.float32] | None:
    """Return a layer's bias in real units after the factors and biases that the layer absorbed."""
    if bias is not None and fusion.multiplier is not None:
        bias = bias * fusion.multiplier
    if bias is None or fusion.bias is None:
        return fusion.bias if bias is None else bias
    return bias + fusion.bias


def _position(layer: Layer) -> tuple[int | None, int | None]:
    # The bias of a convolution is (n,); that of a Gemm broadcasts onto (m, n).
    return channel_position(layer) if layer.kind == "matmul" else (1, 1)


def _int32(layer: Layer, accumulator_scale: NDArray[np.float32]) -> NDArray[np.int32] | None:
    """Return an int32 bias that counts in the accumulator's own units, as onnxruntime's fusion takes it."""
    if layer.form == "qlinear":
        constant = constant_array(layer.bias)
        return constant if constant is not None and constant.dtype == np.int32 else None
    node = None if layer.bias is None else layer.bias.producer()
    if node is None or node.op_type != "DequantizeLinear":
        return None
    stored = constant_array(node.inputs[0])
    scale = constant_array(node.inputs[1])
    if stored is None or stored.dtype != np.int32 or scale is None or scale.size not in (1, layer.shape[0]):
        return None
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        point = constant_array(node.inputs[2])
        if point is None or point.any():
            return None
    return stored if np.allclose(scale.reshape(-1), accumulator_scale, rtol=1e-5, atol=0) else None
