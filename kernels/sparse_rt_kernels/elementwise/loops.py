"""Emitted loops: over whole units of 64 elements and what is left of one; and code in one version for each dtype."""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from sparse_rt_kernels import simd
from sparse_rt_kernels.elementwise.parts import UNIT

__all__ = ["each_signedness", "each_unit", "zero"]


def zero() -> Any:
    """Return 0 as an IR i64: what an emitter returns."""
    return ir.Constant(simd.I64, 0)


def each_unit(builder: Any, count: Any, body: Callable[[Any, Any], None]) -> None:
    """Emit ``body(first element, None)`` for every whole unit, then ``body(first element, rest)`` for what is left."""
    unit = ir.Constant(simd.I64, UNIT)
    rest = builder.and_(count, ir.Constant(simd.I64, UNIT - 1))
    whole = builder.sub(count, rest)
    with cgutils.for_range_slice(builder, zero(), whole, unit, simd.I64, inc=True) as (first, _):
        body(first, None)
    with builder.if_then(builder.icmp_signed(">", rest, zero())):
        body(whole, rest)


def each_signedness(builder: Any, flags: list[Any], body: Callable[..., None]) -> None:
    """Emit ``body(*signs)`` for each combination of 0 and 1, to be run when `flags` (IR i64) have these values."""
    if not flags:
        body()
        return
    with builder.if_else(builder.icmp_signed("!=", flags[0], zero())) as (signed, unsigned):
        with signed:
            each_signedness(builder, flags[1:], lambda *signs: body(1, *signs))
        with unsigned:
            each_signedness(builder, flags[1:], lambda *signs: body(0, *signs))
