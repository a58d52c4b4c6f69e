"""What a layer's kernel multiplies by and finishes with: values, epilogue, dtypes, in floats or in integers."""

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from sparse_rt_kernels.product.epilogue import FloatEpilogue, IntegerEpilogue

from sparse_rt.graph.layers.layer import Layer
from sparse_rt.graph.layers.weights import constant_array
from sparse_rt.plan.match.constants import float_constant, is_scale, per_channel, scalar
from sparse_rt.plan.match.fusion import Fusion, channel_position
from sparse_rt.plan.steps.epilogues import Requantisation, accumulator_fits, float_epilogue

__all__ = ["Operands", "Refusal", "operands"]

_LEAST_SCALE = np.float32(2.0**-60)
_Scale = TypeVar("_Scale", np.float32, NDArray[np.float32])
_FLOAT_BIAS = ("MatMulIntegerToFloat", "DynamicQuantizeMatMul")


class Refusal(Exception):  # noqa: N818, it is a value with a reason, on its way to the report
    """Why no kernel fits a layer."""


@dataclass(frozen=True, eq=False)
class Operands:
    """What a kernel needs to know of a layer, beside its shape.

    Attributes
    ----------
    dtype
        Of the kernel: ``"f32"`` or ``"u8s8"``.
    values
        The weight's values as the kernel takes them, in the shape that they came in.
    epilogue
        What becomes of the sums.
    x_dtype, y_dtype
        Of the arrays.
    pad_value
        The zero point of x where it is constant.
    x_zero_point, scale
        Names of the values that hold a zero point of x, and a scale of the product, which are known only at run time.
    requantisation
        What the epilogue is then made from; None where `epilogue` holds as it is.
    """

    dtype: str
    values: NDArray[Any]
    epilogue: FloatEpilogue | IntegerEpilogue
    x_dtype: np.dtype[Any]
    y_dtype: np.dtype[Any]
    pad_value: int = 0
    x_zero_point: str | None = None
    scale: str | None = None
    requantisation: Requantisation | None = None


def operands(fusion: Fusion, values: NDArray[Any]) -> Operands:
    """Return the operands of a layer whose weight has these values, (n, any number), each row of one output channel.

    Raises
    ------
    Refusal
        No kernel computes such a layer.
    """
    layer = fusion.layer
    if layer.attributes.get("activation"):
        raise Refusal(f"no standard operator is known for the activation '{layer.attributes['activation']}'")
    if layer.form == "dynamic":
        raise Refusal("the model's opset has no DynamicQuantizeLinear")
    if layer.form == "float" or (layer.form == "qdq" and fusion.x_quantised is None):
        return _float_operands(fusion, values)
    return _integer_operands(fusion, values)


# --- floats --------------------------------------------------------------------------------------------------------


def _float_operands(fusion: Fusion, values: NDArray[Any]) -> Operands:
    """Return what a float kernel multiplies by."""
    layer = fusion.layer
    alpha = np.float32(_number(layer, "alpha"))
    if layer.form == "qdq":
        values = _dequantised(layer, values)
    elif values.dtype != np.float32:
        raise Refusal(f"no kernel for {values.dtype} weights")
    if alpha != 1:
        values = _scaled(values, alpha)
    if fusion.multiplier is not None:
        values = _scaled(values, fusion.multiplier[:, None])
    bias = _with_fused(fusion, _float_bias(layer))
    epilogue = float_epilogue(layer.shape[0], bias, fusion.low, fusion.high)
    real = np.dtype(np.float32)
    return Operands("f32", values, epilogue, real, real)


def _scaled(values: NDArray[np.float32], factor: NDArray[np.float32] | np.float32) -> NDArray[np.float32]:
    """Return the weights times a factor that the model applies to sums of products, which may be of another size."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        scaled: NDArray[np.float32] = values * factor
    sizes = np.abs(scaled)
    lost = (values != 0) & (factor != 0) & ~((sizes >= np.finfo(np.float32).tiny) & (sizes < np.inf))
    if lost.any() and np.isfinite(values).all():
        raise Refusal("weights times the factors that follow leave the range of float32")
    return scaled


def _dequantised(layer: Layer, values: NDArray[Any]) -> NDArray[np.float32]:
    """Return the weights as DequantizeLinear makes them; a scale is of one output channel, so zeros stay zeros."""
    scale = _usual(_weight_scale(layer))
    return np.ascontiguousarray(values.astype(np.float32) * scale[:, None])


def _with_fused(fusion: Fusion, bias: NDArray[np.float32] | None) -> NDArray[np.float32] | None:
    """Return a layer's bias in real units after the factors and biases that the layer absorbed."""
    if bias is not None and fusion.multiplier is not None:
        bias = bias * fusion.multiplier
    if bias is None or fusion.bias is None:
        return fusion.bias if bias is None else bias
    return bias + fusion.bias


def _float_bias(layer: Layer) -> NDArray[np.float32] | None:
    if layer.bias is None:
        return None
    constant = float_constant(layer.bias)
    if constant is None:
        raise Refusal("the bias is not a float32 constant")
    values = per_channel(constant, layer.shape[0], *_bias_position(layer))
    if values is None:
        raise Refusal(f"the bias {constant.shape} is not one value for each output channel")
    beta = np.float32(_number(layer, "beta"))
    return values if beta == 1 else values * beta


def _bias_position(layer: Layer) -> tuple[int | None, int | None]:
    # The bias of a convolution is (n,); that of a Gemm broadcasts onto (m, n).
    return channel_position(layer) if layer.kind == "matmul" else (1, 1)


def _number(layer: Layer, name: str) -> float:
    value = layer.attributes.get(name)
    return float(value) if isinstance(value, int | float) else 1.0


# --- integers ------------------------------------------------------------------------------------------------------


def _integer_operands(fusion: Fusion, values: NDArray[Any]) -> Operands:
    """Return what an integer kernel multiplies by."""
    layer = fusion.layer
    values = _signed(values)
    row_sums = values.sum(axis=1, dtype=np.int64)
    absolute_sums = np.abs(values, dtype=np.int16).sum(axis=1, dtype=np.int64)
    x_dtype, zero_point, dynamic = _x_zero_point(fusion)
    if layer.form == "integer":
        bias_integer = None
        requantisation, y_dtype = _dynamic_requantisation(fusion, row_sums)
    else:
        requantisation, y_dtype = _requantisation(fusion, row_sums)
        bias_integer = requantisation.bias_integer
    if not accumulator_fits(absolute_sums, bias_integer):
        raise Refusal("the weights are so large or so many that an int32 accumulator could overflow")
    return Operands(
        "u8s8",
        values,
        requantisation.epilogue(zero_point),
        x_dtype,
        y_dtype,
        pad_value=zero_point,
        x_zero_point=dynamic,
        scale=None if fusion.scale is None else str(fusion.scale.name),
        requantisation=requantisation if dynamic is not None or fusion.scale is not None else None,
    )


def _signed(values: NDArray[Any]) -> NDArray[np.int8]:
    """Return the values as int8. uint8 weights with zero point 0 qualify where they do not reach 128."""
    if values.dtype == np.int8:
        return values
    if values.dtype == np.uint8 and not (values > np.iinfo(np.int8).max).any():
        return values.view(np.int8)
    raise Refusal(f"no kernel for {values.dtype} weights")


def _x_zero_point(fusion: Fusion) -> tuple[np.dtype[Any], int, str | None]:
    """Return x's dtype, its zero point, and the name of the value that holds it where it is not constant.

    A zero point that is not constant is 0 until then.
    """
    if fusion.x_quantised is not None:
        return fusion.x_quantised.dtype, fusion.x_quantised.zero_point, None
    value = fusion.layer.x_zero_point
    if value is None:
        known = {ir.DataType.UINT8: np.dtype(np.uint8), ir.DataType.INT8: np.dtype(np.int8)}
        dtype = known.get(fusion.x.dtype) if fusion.x.dtype is not None else None
        if dtype is None:
            raise Refusal("the dtype of x is not known while planning")
        return dtype, 0, None
    constant = constant_array(value)
    if constant is not None:
        point = scalar(constant)
        if point is None or point.dtype not in (np.int8, np.uint8):
            raise Refusal("the zero point of x is not one 8-bit integer")
        return point.dtype, int(point), None
    dtype_known = value.dtype if value.dtype is not None else fusion.x.dtype
    producer = value.producer()
    if dtype_known is None and producer is not None and producer.op_type == "DynamicQuantizeLinear":
        dtype_known = ir.DataType.UINT8
    if dtype_known not in (ir.DataType.UINT8, ir.DataType.INT8):
        raise Refusal("the dtype of x is not known while planning")
    return np.dtype(dtype_known.numpy()), 0, value.name


def _requantisation(fusion: Fusion, row_sums: NDArray[np.int64]) -> tuple[Requantisation, np.dtype[Any]]:
    layer = fusion.layer
    x_scale = _x_scale(fusion)
    accumulator_scale = _usual(np.float32(_number(layer, "alpha")) * _usual(x_scale) * _usual(_weight_scale(layer)))
    bias_integer, bias = _integer_bias(layer, accumulator_scale)
    bias = _with_fused(fusion, bias)
    if fusion.multiplier is not None:
        accumulator_scale = _usual(accumulator_scale * _usual(fusion.multiplier))
    y_scale, y_zero_point, y_dtype = _y_quantisation(fusion)
    if y_scale is not None:
        _usual(accumulator_scale / _usual(y_scale))
    requantisation = Requantisation.of(
        row_sums,
        accumulator_scale,
        y_scale,
        zero_point=y_zero_point,
        bias_integer=bias_integer,
        bias=bias,
        low=fusion.low,
        high=fusion.high,
    )
    return requantisation, y_dtype


def _usual(scale: _Scale) -> _Scale:
    """Return scales, or factors, between which and 255 no product leaves float32 or loses digits; refuse others."""
    sizes = np.abs(scale)
    if not ((sizes == 0) | ((sizes >= _LEAST_SCALE) & (sizes <= 1 / _LEAST_SCALE))).all():
        raise Refusal("scales so large or so small that float32 does not hold their products")
    return scale


def _dynamic_requantisation(fusion: Fusion, row_sums: NDArray[np.int64]) -> tuple[Requantisation, np.dtype[Any]]:
    """Return what MatMulInteger and ConvInteger need: int32 as it is, or floats by a scale of run time."""
    if fusion.scale is None:
        return Requantisation.to_int32(row_sums), np.dtype(np.int32)
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
    return requantisation, np.dtype(np.float32)


def _x_scale(fusion: Fusion) -> np.float32:
    if fusion.scale is not None:
        return np.float32(1)  # a factor of run time
    if fusion.x_quantised is not None:
        return fusion.x_quantised.scale
    return _scale(fusion.layer.x_scale, "x")


def _scale(value: ir.Value | None, operand: str) -> np.float32:
    found = scalar(constant_array(value))
    if found is None or not is_scale(found):
        raise Refusal(f"the scale of {operand} is not one positive float32 constant")
    return np.float32(found)


def _weight_scale(layer: Layer) -> NDArray[np.float32]:
    """Return the weight's scale as (n,) float32."""
    scale = layer.weight_scale
    if scale is None or scale.dtype != np.float32 or scale.size not in (1, layer.shape[0]):
        raise Refusal("the scale of the weight is not a float32 constant")
    return np.broadcast_to(scale.reshape(-1), (layer.shape[0],)).copy()


def _y_quantisation(fusion: Fusion) -> tuple[np.float32 | None, int, np.dtype[Any]]:
    """Return scale, zero point and dtype of the output; no scale for a float output."""
    if fusion.y_quantised is not None:
        return fusion.y_quantised.scale, fusion.y_quantised.zero_point, fusion.y_quantised.dtype
    layer = fusion.layer
    if layer.form == "qdq" or layer.y_scale is None:
        return None, 0, np.dtype(np.float32)
    scale = _scale(layer.y_scale, "y")
    if layer.y_zero_point is None:
        return scale, 0, np.dtype(np.uint8)
    point = scalar(constant_array(layer.y_zero_point))
    if point is None or point.dtype not in (np.int8, np.uint8):
        raise Refusal("the zero point of y is not one constant 8-bit integer")
    return scale, int(point), point.dtype


def _integer_bias(
    layer: Layer, accumulator_scale: NDArray[np.float32]
) -> tuple[NDArray[np.int64] | None, NDArray[np.float32] | None]:
    """Return the bias in units of the accumulator, or else in real units."""
    if layer.bias is None:
        return None, None
    position = _bias_position(layer)
    beta = _number(layer, "beta")
    stored = _quantised_bias(layer, accumulator_scale)
    if stored is not None and beta == 1:
        values = per_channel(stored, layer.shape[0], *position)
        if values is None:
            raise Refusal(f"the bias {stored.shape} is not one value for each output channel")
        return values.astype(np.int64), None
    if layer.form == "qlinear" and layer.op_type not in _FLOAT_BIAS:
        raise Refusal("the bias is not an int32 constant")
    return None, _float_bias(layer)


def _quantised_bias(layer: Layer, accumulator_scale: NDArray[np.float32]) -> NDArray[np.int32] | None:
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
