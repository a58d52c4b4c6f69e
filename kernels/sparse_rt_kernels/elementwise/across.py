"""Reductions across the lanes of vectors."""

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir

from sparse_rt_kernels import simd

__all__ = ["largest_of_lanes", "sum_across", "sum_of_lanes"]

_EVEN, _ODD = range(0, 32, 2), range(1, 32, 2)


def sum_across(builder: Any, rows: Sequence[Any], combine: Callable[[Any, Any, Any], Any]) -> Any:
    """Return a vector whose lane i is the sum of the lanes of row i, of 16 rows of 16 lanes.

    Neighbours are added, of two rows at a time; after four rounds one vector is left: 45 instructions in all.
    """
    current = list(rows)
    while len(current) > 1:
        pairs = zip(current[::2], current[1::2], strict=True)
        current = [
            combine(builder, simd.shuffle(builder, a, b, _EVEN), simd.shuffle(builder, a, b, _ODD)) for a, b in pairs
        ]
    return current[0]


def _of_lanes(builder: Any, value: Any, combine: Callable[[Any, Any, Any], Any]) -> Any:
    """Combine the upper half of a vector with the lower until one lane is left; return it."""
    size = value.type.count
    while size > 1:
        size //= 2
        lower, upper = (simd.shuffle(builder, value, value, range(first, first + size)) for first in (0, size))
        value = combine(builder, lower, upper)
    return builder.extract_element(value, ir.Constant(simd.I32, 0))


def sum_of_lanes(builder: Any, value: Any) -> Any:
    """Return the sum of the lanes of one vector of floats."""
    return _of_lanes(builder, value, simd.fadd)


def largest_of_lanes(builder: Any, value: Any) -> Any:
    """Return the largest lane of one vector of floats."""
    return _of_lanes(builder, value, simd.larger)
