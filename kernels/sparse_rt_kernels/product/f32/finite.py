"""Whether values on their way into a panel are finite: register tiles multiply stored zeros, and 0 * inf is NaN.

0 * x is NaN exactly for x that are infinite or NaN, and a NaN stays in a sum.
"""

from typing import Any

from llvmlite import ir

from sparse_rt_kernels.jit.compiler import cgutils
from sparse_rt_kernels.jit.llvm import I64
from sparse_rt_kernels.vectors import simd

__all__ = ["Finite", "not_finite"]


def _lanes_not_a_number(builder: Any, total: Any) -> Any:
    """Return the lanes of a vector that are NaN as bits of an i64."""
    bits = builder.bitcast(builder.fcmp_unordered("uno", total, total), ir.IntType(total.type.count))
    return builder.zext(bits, I64)


class Finite:
    """A slot that notes in which lanes there was an infinity or a NaN among vectors of type `kind`."""

    def __init__(self, builder: Any, kind: Any) -> None:
        self._zero = ir.Constant(kind, None)
        self._total = cgutils.alloca_once_value(builder, self._zero)

    def note(self, builder: Any, value: Any) -> None:
        """Look at one vector."""
        builder.store(simd.fma(builder, self._zero, value, builder.load(self._total)), self._total)

    def spoiled(self, builder: Any) -> Any:
        """Return the lanes in which not all was finite as bits of an i64."""
        return _lanes_not_a_number(builder, builder.load(self._total))


def not_finite(builder: Any, values: list[Any]) -> Any:
    """Return the lanes in which any of `values` is infinite or NaN as bits of an i64."""
    # Four sums do not wait for each other.
    zero = ir.Constant(values[0].type, None)
    totals = [zero] * min(4, len(values))
    for number, value in enumerate(values):
        totals[number % 4] = simd.fma(builder, zero, value, totals[number % 4])
    total = totals[0]
    for other in totals[1:]:
        total = simd.fadd(builder, total, other)
    return _lanes_not_a_number(builder, total)
