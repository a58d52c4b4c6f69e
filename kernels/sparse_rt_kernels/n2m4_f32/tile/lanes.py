"""One register of the float32 2:4 family: 16 lanes, and the words and masks that address them."""

from typing import Any

from llvmlite import ir

from sparse_rt_kernels.jit.compiler import types
from sparse_rt_kernels.jit.llvm import I64
from sparse_rt_kernels.vectors import simd
from sparse_rt_kernels.vectors.registers import FLOATS, LANES, MASK

__all__ = ["bits_of", "clipped", "mask_of", "not_finite", "returns_intp"]


def returns_intp(arguments: int) -> Any:
    """Return the signature of so many words that returns a I64."""
    return types.intp(*[types.intp] * arguments)


def mask_of(builder: Any, bits: Any) -> Any:
    """Return the low 16 bits of an i64 as a mask of lanes."""
    return builder.bitcast(builder.trunc(bits, ir.IntType(LANES)), MASK)


def bits_of(builder: Any, mask: Any) -> Any:
    """Return a mask of lanes as the low 16 bits of an i64."""
    return builder.zext(builder.bitcast(mask, ir.IntType(LANES)), I64)


def not_finite(builder: Any, values: list[Any]) -> Any:
    """Return, as 16 bits, the lanes in which any of `values` is infinite or NaN."""
    # 0 * x is NaN exactly for those, and a NaN stays in the sum. Four sums do not wait for each other.
    zero = ir.Constant(FLOATS, None)
    totals = [zero] * min(4, len(values))
    for number, value in enumerate(values):
        totals[number % 4] = simd.fma(builder, zero, value, totals[number % 4])
    total = totals[0]
    for other in totals[1:]:
        total = simd.fadd(builder, total, other)
    return bits_of(builder, builder.fcmp_unordered("uno", total, total))


def clipped(builder: Any, value: Any, low: Any, high: Any) -> Any:
    """Return `value` within bounds; larger and smaller return their second operand if it is NaN."""
    return simd.smaller(builder, high, simd.larger(builder, low, value))
