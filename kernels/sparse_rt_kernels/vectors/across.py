"""Reductions across the lanes of 16 vectors at once: of one alone, each step would wait for the one before it."""

from collections.abc import Callable, Sequence
from typing import Any

from sparse_rt_kernels.jit.compiler import types
from sparse_rt_kernels.vectors import simd
from sparse_rt_kernels.vectors.loops import zero
from sparse_rt_kernels.vectors.registers import FLOATS, LANES

__all__ = ["fold_largest", "fold_sums", "combine_across"]

_EVEN, _ODD = range(0, 32, 2), range(1, 32, 2)


def combine_across(builder: Any, rows: Sequence[Any], combine: Callable[[Any, Any, Any], Any]) -> Any:
    """Return a vector whose lane i is all lanes of row i combined (added), of 16 rows of 16 lanes.

    Neighbours are combined, of two rows at a time; after four rounds one vector is left: 45 instructions in all.
    """
    current = list(rows)
    while len(current) > 1:
        pairs = zip(current[::2], current[1::2], strict=True)
        current = [
            combine(builder, simd.shuffle(builder, a, b, _EVEN), simd.shuffle(builder, a, b, _ODD)) for a, b in pairs
        ]
    return current[0]


def _fold(builder: Any, given: Sequence[Any], combine: Callable[[Any, Any, Any], Any]) -> Any:
    source, y = (simd.pointer(builder, address) for address in given)
    rows = [simd.load(builder, simd.element(builder, source, 4 * LANES * row), FLOATS, 4) for row in range(LANES)]
    simd.store(builder, y, combine_across(builder, rows, combine), 4)
    return zero()


@simd.emitter
def fold_sums(context: Any, x: Any, y: Any) -> Any:
    """``y[i] = sum(x[i])`` of 16 rows of 16 float32 at the address x."""

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        return _fold(builder, given, simd.fadd)

    return types.intp(types.intp, types.intp), generate


@simd.emitter
def fold_largest(context: Any, x: Any, y: Any) -> Any:
    """``y[i] = max(x[i])`` of 16 rows of 16 float32 at the address x."""

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        return _fold(builder, given, simd.larger)

    return types.intp(types.intp, types.intp), generate
