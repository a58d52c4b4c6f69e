"""Reductions across the lanes of 16 vectors at once."""

from collections.abc import Callable, Sequence
from typing import Any

from sparse_rt_kernels import simd

__all__ = ["sum_across"]

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
