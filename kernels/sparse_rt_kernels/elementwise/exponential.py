"""exp of 16 floats at most 0, as softmax needs it."""

import math
from typing import Any, Final

from sparse_rt_kernels import simd
from sparse_rt_kernels.elementwise.lanes import WORDS, constant, multiply_add

__all__ = ["exponential"]

#: Added to a float of magnitude below 2**22 it rounds it half to even, as an integer in the low bits of the sum.
_ROUNDER: Final = 1.5 * 2.0**23
#: ln 2 in two parts; the first has so few bits that its product with an exponent is exact.
_LN2_HIGH: Final = 355.0 / 512.0
_LN2_LOW: Final = math.log(2.0) - _LN2_HIGH
#: exp of this is the smallest that needs no denormal number.
_LEAST: Final = -87.0
_DEGREE: Final = 6


def exponential(builder: Any, x: Any) -> Any:
    """Return exp(x) for 16 lanes x <= 0, with a relative error below 2e-7; exp(-87) for all below; NaN for NaN.

    exp(x) = 2**n exp(r) with n = round(x / ln 2), so that |r| <= ln 2 / 2, where 6 terms after the 1 suffice.
    """
    # larger gives its second operand if either is NaN.
    x = simd.larger(builder, constant(_LEAST), x)
    shifted = multiply_add(builder, x, constant(1.0 / math.log(2.0)), constant(_ROUNDER))
    n = simd.fsubtract(builder, shifted, constant(_ROUNDER))
    r = multiply_add(builder, n, constant(-_LN2_HIGH), x)
    r = multiply_add(builder, n, constant(-_LN2_LOW), r)
    value = constant(1.0 / math.factorial(_DEGREE))
    for power in range(_DEGREE - 1, -1, -1):
        value = multiply_add(builder, value, r, constant(1.0 / math.factorial(power)))
    # n, in the low bits of `shifted`, is added to the exponent of the value.
    exponent = simd.multiply(builder, simd.bitcast(builder, shifted, WORDS), simd.constant(simd.I32, [1 << 23] * 16))
    return simd.bitcast(builder, simd.add(builder, simd.bitcast(builder, value, WORDS), exponent), value.type)
