"""From floats to bytes: divide by a scale, round half to even, add the zero point, saturate, narrow."""

from collections.abc import Sequence
from typing import Any, Final

from sparse_rt_kernels.cpu import isa
from sparse_rt_kernels.jit.llvm import F32, I8, I16
from sparse_rt_kernels.vectors import simd
from sparse_rt_kernels.vectors.lanes import broadcast_float, constant, has_fma
from sparse_rt_kernels.vectors.quantisation import ByteFields
from sparse_rt_kernels.vectors.registers import ROUNDER, WORDS

__all__ = ["Divisor", "to_bytes"]

#: More than any quotient that does not saturate, and what int32 can still hold.
_MOST_QUOTIENT: Final = 1024.0


class Divisor:
    """Quotients by one scale, as exact as division but by multiplications, which are many times as fast.

    q = x * (1 / scale) errs by a few units in the last place; its remainder x - q * scale is exact in a fused
    multiply-add, and so q + remainder * (1 / scale) is the correctly rounded quotient (Markstein). The remainder
    cancels as long as nothing overflows or underflows, which the bounds on :class:`quantisation.Quantisation`'s scale
    see to.
    """

    def __init__(self, builder: Any, scale: Any) -> None:
        """Prepare for the float32 `scale`, before the loop."""
        self._scale = broadcast_float(builder, scale)
        self._reciprocal = builder.fdiv(constant(1.0), self._scale)
        self._most = simd.fmultiply(builder, self._scale, constant(_MOST_QUOTIENT))
        self._minus_scale = simd.fsubtract(builder, constant(-0.0), self._scale)

    def quotient(self, builder: Any, x: Any) -> Any:
        """Return x / scale, at most 1024; NaN for NaN and for large negative x, which :func:`to_bytes` makes least."""
        # smaller gives its second operand if either is NaN.
        x = simd.smaller(builder, self._most, x)
        if not has_fma():
            return builder.fdiv(x, self._scale)
        quotient = simd.fmultiply(builder, x, self._reciprocal)
        remainder = simd.fma(builder, quotient, self._minus_scale, x)
        return simd.fma(builder, remainder, self._reciprocal, quotient)

    def product(self, builder: Any, x: Any) -> Any:
        """Return x * (1 / scale), which is off by up to a unit in the last place; else as :meth:`quotient`."""
        return simd.fmultiply(builder, simd.smaller(builder, self._most, x), self._reciprocal)


def _bytes_of(builder: Any, value: Any, lanes: int) -> Any:
    """Return the low byte of an i64 in every lane."""
    return simd.broadcast(builder, builder.trunc(value, I8), lanes)


def to_bytes(builder: Any, level: int, values: Sequence[Any], fields: ByteFields) -> Any:
    """Return ``clip(round_half_even(values) + zero_point, least, most) ^ flip`` of 4 x 16 floats as 64 bytes.

    `fields` are IR i64, `level` is that of :mod:`isa`. NaN becomes `least`. Values from 2**31 on are for the caller to
    cut down: int32 does not hold them.
    """
    zero_point, least, most, flip = fields
    if isa.allows(level, "avx512"):
        result = _saturated(builder, values, zero_point)
        result = simd.larger_byte(builder, result, _bytes_of(builder, least, 64))
        result = simd.smaller_byte(builder, result, _bytes_of(builder, most, 64))
    else:
        bounds = [builder.sitofp(builder.sub(bound, zero_point), F32) for bound in (least, most)]
        low, high = (broadcast_float(builder, bound) for bound in bounds)
        result = _rounded(builder, values, low, high)
        result = simd.add(builder, result, _bytes_of(builder, zero_point, 64))
    return simd.bitwise_xor(builder, result, _bytes_of(builder, flip, 64))


def _saturated(builder: Any, values: Sequence[Any], zero_point: Any) -> Any:
    """Round by conversion and saturate while narrowing: 9 instructions for 64 bytes."""
    words = [simd.nearest_int(builder, value) for value in values]
    shift = simd.broadcast(builder, builder.trunc(zero_point, I16), 32)
    halves = [simd.add_saturated(builder, simd.pack_int16(builder, words[i], words[i + 1]), shift) for i in (0, 2)]
    packed = simd.bitcast(builder, simd.pack_uint8(builder, halves[0], halves[1]), WORDS)
    # Packing works within 16 bytes: 4 of each of the vectors lie there side by side.
    ordered = simd.shuffle(builder, packed, packed, [4 * lane + part for part in range(4) for lane in range(4)])
    return simd.bitcast(builder, ordered, simd.vector(I8, 64))


def _rounded(builder: Any, values: Sequence[Any], low: Any, high: Any) -> Any:
    """Round by adding a number so large that the sum has no bits left for fractions, of any vector width."""
    rounder = constant(ROUNDER)
    narrow = []
    for value in values:
        inside = simd.smaller(builder, simd.larger(builder, value, low), high)
        word = simd.bitcast(builder, simd.fadd(builder, inside, rounder), WORDS)
        narrow.append(simd.narrow_to_byte(builder, word))
    pairs = [simd.shuffle(builder, narrow[i], narrow[i + 1], range(32)) for i in (0, 2)]
    return simd.shuffle(builder, pairs[0], pairs[1], range(64))
