"""Operands of integer kernels."""

from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from sparse_rt.formats import Weight
from sparse_rt.graph.layers.weights import constant_array
from sparse_rt.plan.match.constants import scalar
from sparse_rt.plan.match.fusion import Fusion
from sparse_rt.plan.match.operands.bias import stored_bias, with_fused
from sparse_rt.plan.match.operands.record import Operands, Refusal
from sparse_rt.plan.match.operands.scales import activation_scale, number, unusual, weight_scale
from sparse_rt.plan.steps.requantisation import Requantisation, accumulator_fits

__all__ = ["integer_operands"]

_DTYPES = {ir.DataType.UINT8: np.dtype(np.uint8), ir.DataType.INT8: np.dtype(np.int8)}


class _Input(NamedTuple):
    """What an integer kernel reads."""

    dtype: np.dtype[Any]
    zero_point: int
    name: str | None = None
    """Of the value that holds the zero point where it is not constant; it counts as 0 until then."""


class _Output(NamedTuple):
    """What an integer kernel writes; no scale for floats."""

    dtype: np.dtype[Any]
    scale: np.float32 | None = None
    zero_point: int = 0


class _Ending(NamedTuple):
    """What becomes of the sums."""

    requantisation: Requantisation
    y_dtype: np.dtype[Any]


def integer_operands(fusion: Fusion, weight: Weight) -> Operands | Refusal:
    """Return what an integer kernel multiplies by, and what becomes of the sums, or why none does."""
    # uint8 weights with zero point 0 qualify where they do not reach 128.
    signed, x = weight.as_int8(), _input(fusion)
    if signed is None:
        return Refusal(f"no kernel for {weight.dtype} weights")
    if isinstance(x, Refusal):
        return x
    row_sums = signed.row_sums()
    ending = _unscaled(fusion, row_sums) if fusion.layer.form == "integer" else _requantised(fusion, row_sums)
    if isinstance(ending, Refusal):
        return ending
    requantisation = ending.requantisation
    if not accumulator_fits(signed.absolute_row_sums(), requantisation.bias_integer):
        return Refusal("the weights are so large or so many that an int32 accumulator could overflow")
    return Operands(
        "u8s8",
        signed,
        requantisation.epilogue(x.zero_point),
        x.dtype,
        ending.y_dtype,
        pad_value=x.zero_point,
        x_zero_point=x.name,
        scale=None if fusion.scale is None else str(fusion.scale.name),
        requantisation=requantisation if x.name is not None or fusion.scale is not None else None,
    )


def _input(fusion: Fusion) -> _Input | Refusal:
    """Return dtype and zero point of x."""
    if fusion.x_quantised is not None:
        return _Input(fusion.x_quantised.dtype, fusion.x_quantised.zero_point)
    value = fusion.layer.x_zero_point
    unknown = Refusal("the dtype of x is not known while planning")
    if value is None:
        dtype = None if fusion.x.dtype is None else _DTYPES.get(fusion.x.dtype)
        return unknown if dtype is None else _Input(dtype, 0)
    constant = constant_array(value)
    if constant is not None:
        point = scalar(constant)
        if point is None or point.dtype not in _DTYPES.values():
            return Refusal("the zero point of x is not one 8-bit integer")
        return _Input(point.dtype, int(point))
    known = value.dtype if value.dtype is not None else fusion.x.dtype
    producer = value.producer()
    if known is None and producer is not None and producer.op_type == "DynamicQuantizeLinear":
        known = ir.DataType.UINT8
    return unknown if known not in _DTYPES else _Input(_DTYPES[known], 0, value.name)


def _unscaled(fusion: Fusion, row_sums: NDArray[np.int64]) -> _Ending:
    """Return what MatMulInteger and ConvInteger need: int32 as it is, or floats by a scale of run time."""
    if fusion.scale is None:
        return _Ending(Requantisation.to_int32(row_sums), np.dtype(np.int32))
    ones = np.ones(len(row_sums), np.float32)
    requantisation = Requantisation.of(
        row_sums,
        ones if fusion.multiplier is None else fusion.multiplier,
        None,
        zero_point=0,
        bias_integer=None,
        bias=fusion.bias,
        low=fusion.low,
        high=fusion.high,
    )
    return _Ending(requantisation, np.dtype(np.float32))


def _requantised(fusion: Fusion, row_sums: NDArray[np.int64]) -> _Ending | Refusal:
    """Return what layers with scales of their own need."""
    scale = _accumulator_scale(fusion)
    if isinstance(scale, Refusal):
        return scale
    bias = stored_bias(fusion.layer, scale)
    if isinstance(bias, Refusal):
        return bias
    real = with_fused(fusion, bias.real)
    scale = _multiplied(scale, fusion.multiplier)
    if isinstance(scale, Refusal):
        return scale
    y = _output(fusion)
    if isinstance(y, Refusal):
        return y
    if y.scale is not None and (refusal := unusual(y.scale) or unusual(scale / y.scale)) is not None:
        return refusal
    requantisation = Requantisation.of(
        row_sums,
        scale,
        y.scale,
        zero_point=y.zero_point,
        bias_integer=bias.integer,
        bias=real,
        low=fusion.low,
        high=fusion.high,
    )
    return _Ending(requantisation, y.dtype)


def _accumulator_scale(fusion: Fusion) -> NDArray[np.float32] | Refusal:
    """Return what a 1 in the accumulator of each output channel stands for, (n,), without what a run finds."""
    x = _x_scale(fusion)
    if isinstance(x, Refusal):
        return x
    weight = unusual(x) or weight_scale(fusion.layer)
    if isinstance(weight, Refusal):
        return weight
    return _multiplied(number(fusion.layer, "alpha") * x, weight)


def _multiplied(
    scale: np.float32 | NDArray[np.float32], factors: NDArray[np.float32] | None
) -> NDArray[np.float32] | Refusal:
    """Return scales times factors, each of a product that float32 holds."""
    if (refusal := unusual(factors)) is not None:
        return refusal
    product = np.asarray(scale if factors is None else scale * factors)
    return unusual(product) or product


def _x_scale(fusion: Fusion) -> np.float32 | Refusal:
    if fusion.scale is not None:
        return np.float32(1)  # a factor of run time
    if fusion.x_quantised is not None:
        return fusion.x_quantised.scale
    return activation_scale(fusion.layer.x_scale, "x")


def _output(fusion: Fusion) -> _Output | Refusal:
    if fusion.y_quantised is not None:
        return _Output(fusion.y_quantised.dtype, fusion.y_quantised.scale, fusion.y_quantised.zero_point)
    layer = fusion.layer
    if layer.form == "qdq" or layer.y_scale is None:
        return _Output(np.dtype(np.float32))
    scale = activation_scale(layer.y_scale, "y")
    if isinstance(scale, Refusal):
        return scale
    if layer.y_zero_point is None:
        # Of QGemm alone, for which onnxruntime then divides by the scale and gives floats.
        return Refusal("y has a scale, but no zero point")
    point = scalar(constant_array(layer.y_zero_point))
    if point is None or point.dtype not in _DTYPES.values():
        return Refusal("the zero point of y is not one constant 8-bit integer")
    return _Output(point.dtype, scale, int(point))
