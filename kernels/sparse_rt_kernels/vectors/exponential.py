"""exp of floats of at most 0, as softmax needs it."""

import math
from collections.abc import Sequence
from typing import Any, Final

from sparse_rt_kernels.jit.llvm import I32
from sparse_rt_kernels.vectors import simd
from sparse_rt_kernels.vectors.lanes import constant, kept, multiply_add, store_floats
from sparse_rt_kernels.vectors.registers import FLOATS, LANES, ROUNDER, WORDS

__all__ = ["add_exponentials", "exponential"]

#: ln 2 in two parts; the first has so few bits that its product with an exponent is exact.
_LN2_HIGH: Final = 355.0 / 512.0
_LN2_LOW: Final = math.log(2.0) - _LN2_HIGH
#: exp of less is a denormal number, or next to one.
_LEAST: Final = -87.3
_DEGREE: Final = 6


def exponential(builder: Any, values: Sequence[Any], *, reaches_zero: bool = True) -> list[Any]:
    """Return exp(x) for vectors of lanes x <= 0, with a relative error below 2e-7; NaN for NaN.

    Below -87.3 it is 0, or, for those who do not care, exp(-87.3).

    exp(x) = 2**n exp(r) with n = round(x / ln 2), so that |r| <= ln 2 / 2, where 6 terms after the 1 suffice. The
    vectors go step by step together, so that no instruction waits for the one before it.
    """
    # larger gives its second operand if either is NaN.
    inside = [simd.larger(builder, constant(_LEAST), x) for x in values]
    shifted = [multiply_add(builder, x, constant(1.0 / math.log(2.0)), constant(ROUNDER)) for x in inside]
    whole = [simd.fsubtract(builder, n, constant(ROUNDER)) for n in shifted]
    rest = [multiply_add(builder, n, constant(-_LN2_HIGH), x) for n, x in zip(whole, inside, strict=True)]
    rest = [multiply_add(builder, n, constant(-_LN2_LOW), r) for n, r in zip(whole, rest, strict=True)]
    powers = [constant(1.0 / math.factorial(_DEGREE)) for _ in values]
    for power in range(_DEGREE - 1, -1, -1):
        term = constant(1.0 / math.factorial(power))
        powers = [multiply_add(builder, value, r, term) for value, r in zip(powers, rest, strict=True)]
    # n, in the low bits of `shifted`, is added to the exponent of the value.
    bits = simd.constant(I32, [1 << 23] * 16)
    exponents = [simd.multiply(builder, simd.bitcast(builder, n, WORDS), bits) for n in shifted]
    words = [simd.bitcast(builder, value, WORDS) for value in powers]
    sums = [simd.add(builder, word, exponent) for word, exponent in zip(words, exponents, strict=True)]
    results = [simd.bitcast(builder, word, FLOATS) for word in sums]
    if not reaches_zero:
        return results
    is_kept = [builder.fcmp_unordered(">=", x, constant(_LEAST)) for x in values]
    return [builder.select(flag, y, constant(0.0)) for flag, y in zip(is_kept, results, strict=True)]


def add_exponentials(
    builder: Any, values: Sequence[Any], shift: Any, place: Any, rest: Any, totals: Sequence[Any]
) -> list[Any]:
    """Store ``exp(values - shift)`` of a unit at the address `place`; return `totals` with them added.

    Lanes beyond `rest` are left out.
    """
    powers = exponential(builder, [simd.fsubtract(builder, value, shift) for value in values])
    for number, power in enumerate(powers):
        store_floats(builder, place, LANES * number, power, rest)
    inside = [kept(builder, power, LANES * number, rest) for number, power in enumerate(powers)]
    return [simd.fadd(builder, total, power) for total, power in zip(totals, inside, strict=True)]
