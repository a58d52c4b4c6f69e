"""Emitted loops: over whole units of 64 elements and what is left of one; and code in one version for each dtype."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from sparse_rt_kernels.jit.compiler import cgutils
from sparse_rt_kernels.jit.llvm import I64

__all__ = ["UNIT", "each_choice", "each_unit", "first_that_fits", "zero"]

#: Elements that these loops take at a time; what is cut into parts is cut at multiples of it.
UNIT: Final = 64


def zero() -> Any:
    """Return 0 as an IR i64: what an emitter returns."""
    return I64(0)


def each_unit(builder: Any, count: Any, body: Callable[[Any, Any], None]) -> None:
    """Emit ``body(first element, None)`` for every whole unit, then ``body(first element, rest)`` for what is left."""
    unit = I64(UNIT)
    rest = builder.and_(count, I64(UNIT - 1))
    whole = builder.sub(count, rest)
    with cgutils.for_range_slice(builder, zero(), whole, unit, I64, inc=True) as (first, _):
        body(first, None)
    with builder.if_then(builder.icmp_signed(">", rest, zero())):
        body(whole, rest)


def first_that_fits(builder: Any, sizes: Sequence[int], width: Any, emit: Callable[[int], None]) -> None:
    """Emit ``emit(size)`` for every size, of which the first that is at most `width` runs, or else the last."""
    size, *smaller = sizes
    if not smaller:
        emit(size)
        return
    with builder.if_else(builder.icmp_signed(">=", width, I64(size))) as (fits, other):
        with fits:
            emit(size)
        with other:
            first_that_fits(builder, smaller, width, emit)


def each_choice(builder: Any, flags: list[Any], body: Callable[..., None]) -> None:
    """Emit ``body(*choices)`` for each combination of 0 and 1: 1 is what runs where a flag (IR i64) is not 0."""
    if not flags:
        body()
        return
    with builder.if_else(builder.icmp_signed("!=", flags[0], zero())) as (chosen, otherwise):
        with chosen:
            each_choice(builder, flags[1:], lambda *rest: body(1, *rest))
        with otherwise:
            each_choice(builder, flags[1:], lambda *rest: body(0, *rest))
