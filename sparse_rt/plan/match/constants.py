"""Constants that the planner reads: scalars, per-channel vectors, quantisation parameters."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from sparse_rt_kernels.vectors.quantisation import ByteTensor, Quantisation

from sparse_rt.graph.layers.weights import constant_array

__all__ = ["ByteQuantisation", "float_constant", "is_scale", "per_channel", "quantisation_of", "scalar"]

_DOMAINS = ("", "com.microsoft")


@dataclass(frozen=True, eq=False)
class ByteQuantisation:
    """Constant per-tensor parameters of a QuantizeLinear or DequantizeLinear node.

    Attributes
    ----------
    scale
        float32.
    zero_point
        Its value; 0 where absent.
    dtype
        Of the quantised tensor: int8 or uint8.
    """

    scale: np.float32
    zero_point: int
    dtype: np.dtype[Any]

    def is_same(self, other: "ByteQuantisation") -> bool:
        """Return whether two quantisations map bytes to the same numbers."""
        mine = (self.scale, self.zero_point, self.dtype)
        return mine == (other.scale, other.zero_point, other.dtype)

    @property
    def tensor(self) -> ByteTensor:
        """As kernels take it; raises ValueError where it is beyond them."""
        return ByteTensor(Quantisation(float(self.scale), self.zero_point), self.dtype)


def scalar(array: NDArray[Any] | None) -> NDArray[Any] | None:
    """Return a one-element array of at most one axis as shape (); None for every other one."""
    if array is None or array.size != 1 or array.ndim > 1:
        return None
    return array.reshape(())


def is_scale(scale: NDArray[Any]) -> bool:
    """Return whether one number is a scale that activations can have: float32, finite, positive."""
    return scale.dtype == np.float32 and bool(np.isfinite(scale) and scale > 0)


def quantisation_of(node: ir.Node) -> ByteQuantisation | None:
    """Return the parameters of a QuantizeLinear / DequantizeLinear of int8 or uint8, None if they are not constant."""
    if node.domain not in _DOMAINS or node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
        return None
    scale = scalar(constant_array(node.inputs[1]))
    if scale is None or not is_scale(scale):
        return None
    if len(node.inputs) < 3 or node.inputs[2] is None:
        return _without_zero_point(node, scale)
    zero_point = scalar(constant_array(node.inputs[2]))
    if zero_point is None or zero_point.dtype not in (np.int8, np.uint8):
        return None
    return ByteQuantisation(np.float32(scale), int(zero_point), zero_point.dtype)


def _without_zero_point(node: ir.Node, scale: NDArray[Any]) -> ByteQuantisation | None:
    """QuantizeLinear then makes uint8, unless told otherwise; DequantizeLinear reads what its input is."""
    known = {ir.DataType.UINT8: np.uint8, ir.DataType.INT8: np.int8}
    if node.op_type == "QuantizeLinear":
        named = ir.DataType(node.attributes.get_int("output_dtype", 0))
        dtype = known.get(named if named != ir.DataType.UNDEFINED else ir.DataType.UINT8)
    else:
        value = node.inputs[0]
        dtype = known.get(value.dtype) if value is not None and value.dtype is not None else None
    return None if dtype is None else ByteQuantisation(np.float32(scale), 0, np.dtype(dtype))


def float_constant(value: ir.Value | None) -> NDArray[np.float32] | None:
    """Return a float32 constant, looking through one per-tensor or per-axis DequantizeLinear; else None."""
    if value is None:
        return None
    array = constant_array(value)
    if array is None:
        array = _dequantised(value.producer())
    return array if array is not None and array.dtype == np.float32 else None


def _dequantised(node: ir.Node | None) -> NDArray[np.float32] | None:
    if node is None or node.domain not in _DOMAINS or node.op_type != "DequantizeLinear":
        return None
    stored = constant_array(node.inputs[0])
    scale = constant_array(node.inputs[1])
    if stored is None or scale is None or scale.dtype != np.float32 or scale.size not in (1, stored.size):
        return None
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        points = constant_array(node.inputs[2])
        if points is None or points.any():
            return None
    factor = scale.reshape(stored.shape if scale.size == stored.size else ())
    product: NDArray[np.float32] = stored.astype(np.float32) * factor
    return product


def per_channel(array: NDArray[Any], n: int, axis_from_end: int | None, rank: int | None) -> NDArray[Any] | None:
    """Return `array`, which broadcasts onto an output, as one value for each of its n channels; else None.

    Parameters
    ----------
    array
        The constant operand of an Add, or a bias.
    n
        Output channels.
    axis_from_end
        Position of the channel axis, 1 for the last one; None where unknown, when one value for all channels is safe.
    rank
        Of the output; None where unknown, when the last axis is safe, which every output has.
    """
    if array.ndim > (1 if rank is None else rank):
        # The result would have more axes than the output.
        return None
    for position, size in enumerate(reversed(array.shape), start=1):
        if size != 1 and (position != axis_from_end or size != n):
            return None
    return np.broadcast_to(array.reshape(-1), (n,)).copy()
