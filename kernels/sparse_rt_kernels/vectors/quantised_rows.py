"""Rows of bytes where an operator reads float32: dequantised as they are loaded, with a bias for each column."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sparse_rt_kernels.jit.llvm import F32, I32, I64
from sparse_rt_kernels.vectors import lanes, simd
from sparse_rt_kernels.vectors.loops import UNIT
from sparse_rt_kernels.vectors.quantisation import Quantisation, is_signed
from sparse_rt_kernels.vectors.registers import FLOATS, LANES

__all__ = ["FIRSTS", "QuantisedRows", "block_address", "row_reader", "rows_block"]

#: Where the vectors of a unit begin.
FIRSTS: Final = range(0, UNIT, LANES)
#: Byte offsets in the block of :func:`rows_block`.
_SCALE, _ZERO_POINT, _WORD, _BIAS = 0, 4, 8, 12
#: The lowest bit of its significand is 1: it plus a byte is its bits and the byte's.
_LIFT: Final = 2.0**23


@dataclass(frozen=True, eq=False, slots=True)
class QuantisedRows:
    """``value[r, c] = (byte[r, c] - zero_point) * scale + bias[c]``, rounded like separate operators.

    Attributes
    ----------
    quantisation
        Scale and zero point.
    dtype
        int8 or uint8.
    bias
        (columns,) float32; None for none.
    """

    quantisation: Quantisation
    dtype: np.dtype[Any]
    bias: NDArray[np.float32] | None = None


def rows_block(rows: QuantisedRows | None, columns: int) -> NDArray[Any]:
    """Return what the emitted code reads of `rows`, in one piece of memory; none at all where they are float32."""
    if rows is None:
        return np.zeros(0, np.uint8)
    # With their sign bits flipped, signed bytes are unsigned ones 128 higher.
    flip = 128 if is_signed(rows.dtype) else 0
    block = np.zeros(3 + columns, np.float32)
    block[:2] = rows.quantisation.scale, _LIFT + flip + rows.quantisation.zero_point
    block[2:3].view(np.int32)[0] = np.float32(_LIFT).view(np.int32) | flip
    if rows.bias is not None:
        block[3:] = rows.bias
    return block


def block_address(block: NDArray[Any]) -> int:
    """Return the address of a block for a record, 0 if it is empty; whoever holds the record keeps the block."""
    return int(block.ctypes.data) if block.size else 0


def row_reader(builder: Any, base: Any, block: Any, is_quantised: int) -> Callable[[Any, Any], list[Any]]:
    """Return what emits the 4 x 16 floats of a unit of the row at `base`: ``read(first element, rest)``.

    `block` is the address of a :func:`rows_block`, of which float32 have none. Lanes beyond `rest` are 0.
    """

    def by_four(at: Any) -> Any:
        return builder.mul(at, I64(4))

    def read_floats(at: Any, rest: Any) -> list[Any]:
        source = builder.add(base, by_four(at))
        return [lanes.load_floats(builder, source, first, rest) for first in FIRSTS]

    if not is_quantised:
        return read_floats
    held = simd.pointer(builder, block)
    scale, zero_point = (
        lanes.broadcast_float(builder, simd.load(builder, simd.element(builder, held, place), F32, 4))
        for place in (_SCALE, _ZERO_POINT)
    )
    lift = simd.broadcast(builder, simd.load(builder, simd.element(builder, held, _WORD), I32, 4), LANES)
    bias = builder.add(block, I64(_BIAS))

    def read_bytes(at: Any, rest: Any) -> list[Any]:
        source, biases = builder.add(base, at), builder.add(bias, by_four(at))
        values = []
        for first in FIRSTS:
            # In the low bits of 2**23 a byte is converted by one xor. The difference of two bytes is exact; product and
            # sum are rounded one after the other.
            word = simd.bitwise_xor(builder, lanes.load_words(builder, source, first, rest), lift)
            value = simd.bitcast(builder, word, FLOATS)
            value = simd.fmultiply(builder, simd.fsubtract(builder, value, zero_point), scale)
            value = simd.fadd(builder, value, lanes.load_floats(builder, biases, first, rest))
            values.append(lanes.kept(builder, value, first, rest))
        return values

    return read_bytes
