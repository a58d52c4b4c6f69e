"""The curve of gelu: the normal distribution function less 1/2, or what the tanh form takes in its place.

With half(x) this odd function, ``gelu(x) = x (1/2 + half(x)) = x / 2 + |x| half(|x|)``. Where a register of 16 floats
can be indexed, half is a polynomial of degree 4 in each of 15 pieces; elsewhere one of degree 14.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import NDArray

from sparse_rt_kernels.cpu import isa
from sparse_rt_kernels.jit.llvm import F32, I32
from sparse_rt_kernels.vectors import simd
from sparse_rt_kernels.vectors.lanes import broadcast_float, constant, multiply_add
from sparse_rt_kernels.vectors.registers import FLOATS, LANES, ROUNDER, WORDS

__all__ = ["curve", "gelu_emitter"]

#: Beyond this, either way, gelu is 0 or x, which is off by 4e-7 at most.
_EDGE: Final = 5.25
#: Of the one polynomial: as many as make its own error smaller than that of float32 arithmetic.
_DEGREE: Final = 14
#: Between the middles of pieces, the first of which is 0; the last piece begins at 14.5 times this and is constant.
_PIECE: Final = 0.375
_PIECE_DEGREE: Final = 4


def _half_normal(x: float) -> float:
    return 0.5 * math.erf(x / math.sqrt(2.0))


def _half_tanh(x: float) -> float:
    return 0.5 * math.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3))


def _fit(function: Callable[[float], float], degree: int) -> NDArray[np.float64]:
    """Return the coefficients, lowest first, of a polynomial that is nearly the best there is from -1 to 1."""

    def at(points: Any) -> Any:
        return np.array([function(point) for point in points.tolist()])

    return np.asarray(chebyshev.cheb2poly(chebyshev.chebinterpolate(at, degree)), np.float64)


def _has_pieces(level: int) -> bool:
    return isa.allows(level, "avx512")


@functools.cache
def curve(approximate: bool, level: int) -> NDArray[np.float32]:
    """Return the coefficients that code for a level of :mod:`isa` loads, of the form with tanh if `approximate`."""
    half = _half_tanh if approximate else _half_normal
    if not _has_pieces(level):

        def ratio(t: float) -> float:
            x = _EDGE * math.sqrt((t + 1.0) / 2.0)
            return half(x) / x

        return _fit(ratio, _DEGREE).astype(np.float32)
    pieces = np.zeros((LANES, _PIECE_DEGREE + 1))
    for number in range(LANES - 1):
        scaled = _fit(lambda t, middle=number * _PIECE: half(middle + t * _PIECE / 2), _PIECE_DEGREE)  # type: ignore[misc]
        pieces[number] = scaled / (_PIECE / 2) ** np.arange(_PIECE_DEGREE + 1)
    pieces[-1, 0] = 0.5
    return np.ascontiguousarray(pieces.T, np.float32)


def gelu_emitter(builder: Any, level: int, address: Any) -> Callable[[Sequence[Any]], list[Any]]:
    """Return what emits gelu of vectors of 16 lanes by the :func:`curve` at `address`, which is loaded here."""
    base = simd.pointer(builder, address)
    if not _has_pieces(level):
        scalars = [simd.load(builder, simd.element(builder, base, 4 * i), F32, 4) for i in range(_DEGREE + 1)]
        coefficients = [broadcast_float(builder, scalar) for scalar in scalars]
        return lambda values: [_by_polynomial(builder, coefficients, x) for x in values]
    tables = [simd.load(builder, simd.element(builder, base, 64 * i), FLOATS, 4) for i in range(_PIECE_DEGREE + 1)]
    return lambda values: _by_pieces(builder, tables, values)


def _by_polynomial(builder: Any, coefficients: Sequence[Any], x: Any) -> Any:
    """``half(x) = x p(t)`` with t = 2 (x / edge)**2 - 1, from -1 to 1, where powers are harmless in float32."""
    inside = simd.smaller(builder, simd.larger(builder, x, constant(-_EDGE)), constant(_EDGE))
    square = simd.fmultiply(builder, inside, inside)
    t = multiply_add(builder, square, constant(2.0 / _EDGE**2), constant(-1.0))
    value = coefficients[-1]
    for coefficient in reversed(coefficients[:-1]):
        value = multiply_add(builder, value, t, coefficient)
    result = simd.fmultiply(builder, x, multiply_add(builder, value, inside, constant(0.5)))
    # Unordered: NaN stays NaN. The distribution does not quite reach 0 at the edge, and x may be far beyond.
    is_above = builder.fcmp_unordered(">", x, constant(-_EDGE))
    return builder.select(is_above, result, constant(0.0))


def _by_pieces(builder: Any, tables: Sequence[Any], values: Sequence[Any]) -> list[Any]:
    """``half(|x|) = p_i(|x| - 3/8 i)``; the vectors go step by step, so that no instruction waits for the last one."""
    sign_less = simd.constant(I32, [0x7FFFFFFF] * LANES)
    sizes = [
        simd.bitcast(builder, simd.bitwise_and(builder, simd.bitcast(builder, x, WORDS), sign_less), FLOATS)
        for x in values
    ]
    # smaller gives its second operand if either is NaN.
    inside = [simd.smaller(builder, size, constant((LANES - 1) * _PIECE)) for size in sizes]
    shifted = [multiply_add(builder, size, constant(1.0 / _PIECE), constant(ROUNDER)) for size in inside]
    middles = [simd.fsubtract(builder, number, constant(ROUNDER)) for number in shifted]
    rests = [multiply_add(builder, i, constant(-_PIECE), size) for i, size in zip(middles, inside, strict=True)]
    pieces = [simd.bitcast(builder, number, WORDS) for number in shifted]
    halves = [simd.permute(builder, tables[-1], piece) for piece in pieces]
    for table in reversed(tables[:-1]):
        terms = [simd.permute(builder, table, piece) for piece in pieces]
        halves = [multiply_add(builder, h, d, term) for h, d, term in zip(halves, rests, terms, strict=True)]
    linear = [simd.fmultiply(builder, x, constant(0.5)) for x in values]
    return [multiply_add(builder, size, h, x) for size, h, x in zip(sizes, halves, linear, strict=True)]
