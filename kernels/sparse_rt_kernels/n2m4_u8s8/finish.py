"""SIMD epilogue of the int8 2:4 family: int32 sums become outputs, row-major or as planes of channels.

Each is a Numba intrinsic on addresses (intp) that returns an intp: Numba may drop a call that returns nothing.
"""

from typing import Any, Final

from llvmlite import ir
from numba.core import cgutils, types

from sparse_rt_kernels import simd
from sparse_rt_kernels.n2m4_u8s8.layout import CHANNELS

__all__ = ["BYTE", "FLOAT32", "INT32", "finish_planes", "finish_rows"]

#: What the output holds: ``acc + offset``, the scaled float, or the float rounded to a byte (int8 or uint8).
INT32: Final = 0
FLOAT32: Final = 1
BYTE: Final = 2

_WORDS = simd.vector(simd.I32, CHANNELS)
_FLOATS = simd.vector(simd.F32, CHANNELS)
_REGISTER = 64
#: Added to a float of magnitude below 2**22 it rounds it half to even, as an integer in the low bits of the sum.
_ROUNDER = 1.5 * 2.0**23


def _int(value: int) -> Any:
    return ir.Constant(simd.I64, value)


class _Epilogue:
    """The operands of 16 channels, loaded once, and what they make of one row of sums."""

    def __init__(self, builder: Any, kind: int, channels: Any, given: Any) -> None:
        offset, row_sums, shift, scale, bias, low, high, zero_point = given
        self._kind = kind
        correction = simd.load_first(builder, simd.pointer(builder, row_sums), _WORDS, channels)
        shifts = simd.broadcast(builder, builder.trunc(shift, simd.I32), CHANNELS)
        held = simd.load_first(builder, simd.pointer(builder, offset), _WORDS, channels)
        self._offset = simd.subtract(builder, held, simd.multiply(builder, correction, shifts))
        if kind != INT32:
            self._scale = simd.load_first(builder, simd.pointer(builder, scale), _FLOATS, channels)
            self._bias = simd.load_first(builder, simd.pointer(builder, bias), _FLOATS, channels)
            self._low = simd.broadcast(builder, low, CHANNELS)
            self._high = simd.broadcast(builder, high, CHANNELS)
        if kind == BYTE:
            self._zero_point = simd.broadcast(builder, builder.trunc(zero_point, simd.I8), CHANNELS)
            self._rounder = simd.constant(simd.F32, [_ROUNDER] * CHANNELS)

    def __call__(self, builder: Any, sums: Any) -> Any:
        total = simd.add(builder, sums, self._offset)
        if self._kind == INT32:
            return total
        # The product is rounded before the sum, as separate operators do: no fused multiply-add.
        value = simd.fmultiply(builder, simd.to_float(builder, total), self._scale)
        value = simd.fadd(builder, value, self._bias)
        if self._kind == FLOAT32:
            # larger and smaller give their second operand if either is NaN.
            return simd.smaller(builder, self._high, simd.larger(builder, self._low, value))
        value = simd.smaller(builder, simd.larger(builder, value, self._low), self._high)
        rounded = simd.bitcast(builder, simd.fadd(builder, value, self._rounder), _WORDS)
        return simd.add(builder, simd.narrow_to_byte(builder, rounded), self._zero_point)


_OPERANDS = [*[types.intp] * 5, types.float32, types.float32, types.intp]


@simd.emitter
def finish_rows(
    context: Any,
    kind: Any,
    sums: Any,
    rows: Any,
    out: Any,
    stride: Any,
    channels: Any,
    offset: Any,
    row_sums: Any,
    shift: Any,
    scale: Any,
    bias: Any,
    low: Any,
    high: Any,
    zero_point: Any,
) -> Any:
    """``out[r, c] = epilogue(sums[r, c] - shift * row_sums[c] + offset[c])`` for up to 16 channels c.

    Parameters
    ----------
    kind
        Literal int: INT32, FLOAT32 or BYTE.
    sums
        (rows, 16) int32, 64-byte aligned.
    out, stride
        First element, and bytes from row to row. May hold anything on entry.
    channels
        How many channels are stored, 1 to 16.
    offset, row_sums
        (channels,) int32.
    shift
        What was added to each activation while it was packed: 0 or 128.
    scale, bias
        (channels,) float32; not read for INT32.
    low, high
        float32 clip bounds; for BYTE within what `zero_point` leaves of the output's range.
    zero_point
        For BYTE.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        _, sums, rows, out, stride, channels, *operands = given
        epilogue = _Epilogue(builder, kind.literal_value, channels, operands)

        def each_row(put: Any) -> None:
            with cgutils.for_range(builder, rows) as loop:
                source = simd.pointer(builder, builder.add(sums, builder.mul(loop.index, _int(_REGISTER))))
                place = simd.pointer(builder, builder.add(out, builder.mul(loop.index, stride)))
                put(place, epilogue(builder, simd.load(builder, source, _WORDS, _REGISTER)))

        with builder.if_else(builder.icmp_signed("==", channels, _int(CHANNELS))) as (full, ragged):
            with full:
                each_row(lambda place, value: simd.store(builder, place, value))
            with ragged:
                each_row(lambda place, value: simd.store_first(builder, place, value, channels))
        return _int(0)

    return types.intp(kind, *[types.intp] * 5, *_OPERANDS), generate


@simd.emitter
def finish_planes(
    context: Any,
    kind: Any,
    sums: Any,
    rows: Any,
    out: Any,
    stride: Any,
    channels: Any,
    offset: Any,
    row_sums: Any,
    shift: Any,
    scale: Any,
    bias: Any,
    low: Any,
    high: Any,
    zero_point: Any,
) -> Any:
    """``out[c, r] = epilogue(sums[r, c] - shift * row_sums[c] + offset[c])`` for up to 16 channels c and rows r.

    Parameters are those of :func:`finish_rows`, but `stride` is bytes from channel to channel, `rows` is 1 to 16, and
    16 rows of `sums` are read, whatever they hold.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        _, sums, rows, out, stride, channels, *operands = given
        epilogue = _Epilogue(builder, kind.literal_value, channels, operands)
        source = simd.pointer(builder, sums)
        block = [
            epilogue(builder, simd.load(builder, simd.element(builder, source, row * _REGISTER), _WORDS, _REGISTER))
            for row in range(16)
        ]
        turned = simd.transpose(builder, block)
        places = [simd.pointer(builder, builder.add(out, builder.mul(stride, _int(c)))) for c in range(CHANNELS)]
        whole = builder.icmp_signed("==", builder.add(channels, rows), _int(CHANNELS + 16))
        with builder.if_else(whole) as (full, ragged):
            with full:
                for place, value in zip(places, turned, strict=True):
                    simd.store(builder, place, value)
            with ragged:
                for channel, (place, value) in enumerate(zip(places, turned, strict=True)):
                    with builder.if_then(builder.icmp_signed("<", _int(channel), channels)):
                        simd.store_first(builder, place, value, rows)
        return _int(0)

    return types.intp(kind, *[types.intp] * 5, *_OPERANDS), generate
