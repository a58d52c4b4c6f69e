"""From int32 sums of 16 channels to bytes in registers, emitted, and those bytes to planes."""

from typing import Any

from llvmlite import ir

from sparse_rt_kernels.jit.llvm import F32, I8, I16, I32, I64
from sparse_rt_kernels.product.u8s8.operands import Operands
from sparse_rt_kernels.product.u8s8.sizes import CHANNELS
from sparse_rt_kernels.vectors import simd
from sparse_rt_kernels.vectors.registers import FLOATS, WORDS

__all__ = ["Requantiser", "narrow_rows", "store_planes"]


def _everywhere(builder: Any, lanes: Any) -> Any:
    """Return whether all of some booleans are true."""
    mask = ir.IntType(lanes.type.count)
    return builder.icmp_unsigned("==", builder.bitcast(lanes, mask), ir.Constant(mask, -1))


def narrow_rows(builder: Any, rows: list[Any], zero_point: Any) -> Any:
    """Return 4 rows of int32, with the zero point added and saturated, as 64 bytes: 4 of each row in every 16."""
    pairs = [simd.pack_int16(builder, rows[first], rows[first + 1]) for first in (0, 2)]
    pairs = [simd.add_saturated(builder, pair, zero_point) for pair in pairs]
    return simd.pack_uint8(builder, *pairs)


class Requantiser:
    """The operands of 16 channels, and what they make of four rows of sums.

    Attributes
    ----------
    start
        First value of a row's accumulators: the offset, less what the shift of the activations adds to the sum.
    """

    def __init__(self, builder: Any, given: Operands) -> None:
        correction = simd.load(builder, simd.pointer(builder, given.row_sums), WORDS)
        shifts = simd.broadcast(builder, builder.trunc(given.shift, I32), CHANNELS)
        offset = simd.load(builder, simd.pointer(builder, given.offset), WORDS)
        self.start = simd.subtract(builder, offset, simd.multiply(builder, correction, shifts))
        self._scale = simd.load(builder, simd.pointer(builder, given.scale), FLOATS)
        self._bias = simd.load(builder, simd.pointer(builder, given.bias), FLOATS)
        self._high = simd.broadcast(builder, given.high, CHANNELS)
        # Outputs are made as uint8; int8 is uint8 less 128, so that one kind of saturation does for both.
        self._zero_point = simd.broadcast(builder, builder.trunc(builder.add(given.zero_point, given.sign), I16), 32)
        self._sign = simd.broadcast(builder, builder.trunc(given.sign, I8), 64)
        limits = (simd.broadcast(builder, bound, CHANNELS) for bound in (given.low, given.high))
        bounds = (simd.nearest_int(builder, limit) for limit in limits)
        self._least, self._most = (narrow_rows(builder, [bound] * 4, self._zero_point) for bound in bounds)

    def is_plain(self, builder: Any) -> Any:
        """Return whether a product is all there is to round: no bias, no bounds but those of a byte, |scale| < 1.

        No product of an int32 and such a scale leaves int32.
        """
        one, zero = (simd.constant(F32, [value] * CHANNELS) for value in (1.0, 0.0))
        small = builder.and_(
            builder.fcmp_ordered("<", self._scale, one),
            builder.fcmp_ordered(">", self._scale, simd.constant(F32, [-1.0] * CHANNELS)),
        )
        lanes = builder.and_(small, builder.fcmp_ordered("==", self._bias, zero))
        unbounded = simd.subtract(builder, self._most, self._least)
        return builder.and_(
            _everywhere(builder, lanes),
            _everywhere(builder, builder.icmp_signed("==", unbounded, simd.constant(I8, [-1] * 64))),
        )

    def scaled(self, builder: Any, sums: Any, plain: bool) -> Any:
        """Return a row of sums as floats, before they are bounded and rounded."""
        value = simd.fmultiply(builder, simd.to_float(builder, sums), self._scale)
        # The product is rounded before the sum, as separate operators do: no fused multiply-add.
        return value if plain else simd.fadd(builder, value, self._bias)

    def row(self, builder: Any, sums: Any, plain: bool) -> Any:
        """Return a row of sums rounded to int32, without the zero point.

        Only what int32 does not hold must be bounded before; rounding makes the least int32 of it, and of NaN.
        """
        value = self.scaled(builder, sums, plain)
        return simd.nearest_int(builder, value if plain else simd.smaller(builder, self._high, value))

    def unsigned(self, builder: Any, rows: list[Any], plain: bool) -> Any:
        """Return 4 rounded rows as 64 unsigned bytes: in each 16 of them, 4 channels of the first row, of the second...

        round(clip(t)) is clip(round(t)), so that bounds are applied to 64 bytes at a time.
        """
        value = narrow_rows(builder, rows, self._zero_point)
        if plain:
            return value
        return simd.smaller_byte(builder, simd.larger_byte(builder, value, self._least), self._most)

    def four_rows(self, builder: Any, sums: list[Any], plain: bool) -> Any:
        """Return 4 rows of sums as 64 bytes, ordered as by :meth:`unsigned`."""
        rows = [self.row(builder, one, plain) for one in sums]
        return simd.bitwise_xor(builder, self.unsigned(builder, rows, plain), self._sign)


#: Transposes 4 channels of each of 4 rows into 4 rows of each of 4 channels, in every 16 bytes.
_TRANSPOSE = [4 * row + channel for channel in range(4) for row in range(4)] * 4
#: Interleave 32-bit words, or pairs of them, within every 16 bytes: the unpack instructions.
_LOW_WORDS = [lane + part for lane in range(0, 16, 4) for part in (0, 16, 1, 17)]
_LOW_PAIRS = [lane + part for lane in range(0, 16, 4) for part in (0, 1, 16, 17)]


def _interleave(builder: Any, a: Any, b: Any, low: list[int]) -> list[Any]:
    return [simd.shuffle(builder, a, b, [lane + half for lane in low]) for half in (0, 2)]


def store_planes(builder: Any, fours: list[Any], out: Any, stride: Any, first: int) -> None:
    """Store 16 or 8 pixels of 16 channels, from pixel `first` on; `fours` are 4 pixels each."""
    transpose = simd.constant(I8, _TRANSPOSE)
    # Each word is 4 pixels of one channel.
    words = [simd.bitcast(builder, simd.shuffle_bytes(builder, four, transpose), WORDS) for four in fours]
    pairs = [_interleave(builder, words[i], words[i + 1], _LOW_WORDS) for i in range(0, len(words), 2)]
    if len(pairs) == 2:
        pairs = [_interleave(builder, a, b, _LOW_PAIRS) for a, b in zip(*pairs, strict=True)]
    # Lanes of 16 bytes hold channels 0, 4, 8, 12, or 0 and 1, 4 and 5, 8 and 9, 12 and 13, and so on.
    registers = [register for pair in pairs for register in pair]
    size = len(registers)
    for channel in range(CHANNELS):
        value = registers[channel % 4 * len(registers) // 4]
        at = channel // 4 * 4 + channel % (4 // len(registers)) * size
        place = simd.pointer(builder, builder.add(out, builder.mul(stride, I64(channel))))
        simd.store(
            builder, simd.element(builder, place, first), simd.shuffle(builder, value, value, range(at, at + size))
        )
