"""What an int8 product needs to make outputs of its sums, as records that tasks read and emitters take."""

from typing import Any, Final, NamedTuple

import numpy as np

from sparse_rt_kernels.jit.compilation import kernel_jit
from sparse_rt_kernels.product.epilogue import FloatEpilogue, IntegerEpilogue
from sparse_rt_kernels.product.u8s8.clipping import clip_bounds
from sparse_rt_kernels.product.weight import PackedWeight

__all__ = [
    "BYTE",
    "FLOAT32",
    "INT32",
    "OPERAND_FIELDS",
    "Operands",
    "operands_for",
    "operands_in",
    "operands_of",
    "output_kind",
]

#: What the output holds: ``acc + offset``, the scaled float, or the float rounded to a byte (int8 or uint8).
INT32: Final = 0
FLOAT32: Final = 1
BYTE: Final = 2
#: By dtype character.
_KINDS: Final = {np.dtype(np.int32).char: INT32, np.dtype(np.float32).char: FLOAT32, "B": BYTE, "b": BYTE}


class Operands(NamedTuple):
    """The operands of ``epilogue(sum - shift * row_sums[c] + offset[c])``; see :class:`.epilogue.IntegerEpilogue`.

    Attributes
    ----------
    offset, row_sums
        (channels,) int32: their addresses.
    shift
        What was added to each activation while it was packed: 0 or 128.
    scale, bias
        (channels,) float32: their addresses.
    low, high
        Clip bounds; for bytes within what `zero_point` leaves of the output's range. float32 for emitters.
    zero_point, sign
        For bytes; `sign` is what they differ by from uint8: 128 for int8, else 0.
    """

    offset: Any
    row_sums: Any
    shift: Any
    scale: Any
    bias: Any
    low: Any
    high: Any
    zero_point: Any
    sign: Any


#: Fields of a task's record that :func:`operands_for` fills.
OPERAND_FIELDS: Final = [(name, "f8" if name in ("low", "high") else "i8") for name in Operands._fields]


def output_kind(dtype: np.dtype[Any]) -> int:
    """Return INT32, FLOAT32 or BYTE."""
    return _KINDS[dtype.char]


def operands_for(
    packed: PackedWeight[Any], epilogue: FloatEpilogue | IntegerEpilogue, x_dtype: np.dtype[Any], dtype: np.dtype[Any]
) -> Operands:
    """Return the operands of all channels of a product; the third panel of its weight are the row sums."""
    if not isinstance(epilogue, IntegerEpilogue):
        raise TypeError(f"{packed.kernel}: expected an IntegerEpilogue, got {type(epilogue).__name__}.")
    low, high = clip_bounds(epilogue, dtype)
    offset, scale, bias = epilogue.addresses
    shift, sign = (128 if each.char == "b" else 0 for each in (x_dtype, dtype))
    return Operands(offset, packed.addresses[2], shift, scale, bias, low, high, int(epilogue.zero_point), sign)


@kernel_jit
def operands_in(a: Any) -> Operands:
    """Return the operands that a task's record holds."""
    return Operands(a.offset, a.row_sums, a.shift, a.scale, a.bias, a.low, a.high, a.zero_point, a.sign)


@kernel_jit
def operands_of(all_channels: Operands, channel: int) -> Operands:
    """Return the operands from `channel` on, as emitters take them."""
    o, place = all_channels, 4 * channel
    return Operands(
        o.offset + place,
        o.row_sums + place,
        o.shift,
        o.scale + place,
        o.bias + place,
        np.float32(o.low),
        np.float32(o.high),
        o.zero_point,
        o.sign,
    )
