"""Sigmoid and tanh, emitted: both are ratios of exp of numbers of at most 0, which overflow nowhere."""

import functools
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.polynomial import chebyshev

from sparse_rt_kernels.jit.llvm import I32
from sparse_rt_kernels.vectors import simd
from sparse_rt_kernels.vectors.exponential import exponential
from sparse_rt_kernels.vectors.lanes import constant, multiply_add
from sparse_rt_kernels.vectors.registers import FLOATS, LANES, WORDS

__all__ = ["sigmoid", "tanh"]

#: Below this |x|, 1 - exp(-2 |x|) would lose digits, and tanh(x) / x is a polynomial of x**2.
_SMALL: Final = 0.5
_SMALL_DEGREE: Final = 4


def _with_sign_bit(builder: Any, values: Sequence[Any], sign: int) -> list[Any]:
    """Return the values with their sign bits cleared (0), or set (1)."""
    bits = simd.constant(I32, [0x7FFFFFFF if sign == 0 else -(1 << 31)] * LANES)
    words = [simd.bitcast(builder, value, WORDS) for value in values]
    changed = [builder.or_(word, bits) if sign else simd.bitwise_and(builder, word, bits) for word in words]
    return [simd.bitcast(builder, word, FLOATS) for word in changed]


def sigmoid(builder: Any, values: Sequence[Any]) -> list[Any]:
    """Return 1 / (1 + exp(-x)) for vectors of lanes: e / (1 + e) or 1 / (1 + e) with e = exp(-|x|); NaN for NaN."""
    one = constant(1.0)
    powers = exponential(builder, _with_sign_bit(builder, values, 1), reaches_zero=False)
    is_negative = [builder.fcmp_ordered("<", x, constant(0.0)) for x in values]
    above = [builder.select(negative, e, one) for negative, e in zip(is_negative, powers, strict=True)]
    return [builder.fdiv(a, simd.fadd(builder, one, e)) for a, e in zip(above, powers, strict=True)]


@functools.cache
def _small_coefficients() -> tuple[float, ...]:
    """Return the polynomial p, lowest coefficient first, with tanh(x) = x p(x**2) up to :data:`_SMALL`."""

    def ratio(t: Any) -> Any:
        x = np.sqrt((t + 1.0) / 2.0) * _SMALL
        return np.where(x > 0, np.tanh(x) / np.where(x > 0, x, 1.0), 1.0)

    series = chebyshev.Chebyshev(chebyshev.chebinterpolate(ratio, _SMALL_DEGREE), domain=(0.0, _SMALL**2))
    return tuple(float(each) for each in series.convert(kind=np.polynomial.Polynomial).coef)


def tanh(builder: Any, values: Sequence[Any]) -> list[Any]:
    """Return tanh for vectors of lanes: (1 - e) / (1 + e) with e = exp(-2 |x|), and the sign of x; NaN for NaN."""
    one, *coefficients = constant(1.0), *reversed(_small_coefficients())
    sizes = _with_sign_bit(builder, values, 0)
    doubled = [simd.fmultiply(builder, size, constant(-2.0)) for size in sizes]
    ratios = [
        builder.fdiv(simd.fsubtract(builder, one, e), simd.fadd(builder, one, e))
        for e in exponential(builder, doubled, reaches_zero=False)
    ]
    squares = [simd.fmultiply(builder, size, size) for size in sizes]
    small = [constant(coefficients[0]) for _ in values]
    for coefficient in coefficients[1:]:
        small = [multiply_add(builder, p, q, constant(coefficient)) for p, q in zip(small, squares, strict=True)]
    small = [simd.fmultiply(builder, p, size) for p, size in zip(small, sizes, strict=True)]
    is_small = [builder.fcmp_ordered("<", size, constant(_SMALL)) for size in sizes]
    chosen = [builder.select(flag, p, r) for flag, p, r in zip(is_small, small, ratios, strict=True)]
    signs = [simd.bitwise_and(builder, simd.bitcast(builder, x, WORDS), _sign_bits()) for x in values]
    merged = [builder.or_(simd.bitcast(builder, r, WORDS), sign) for r, sign in zip(chosen, signs, strict=True)]
    return [simd.bitcast(builder, word, FLOATS) for word in merged]


def _sign_bits() -> Any:
    return simd.constant(I32, [-(1 << 31)] * LANES)
