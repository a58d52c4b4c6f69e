"""One row of float32: its sum, its squares about the mean, the row normalised."""

from collections.abc import Callable
from typing import Any, Final

from llvmlite import ir
from numba.core import cgutils, types

from sparse_rt_kernels import simd
from sparse_rt_kernels.elementwise import lanes
from sparse_rt_kernels.elementwise.loops import each_unit, zero
from sparse_rt_kernels.elementwise.parts import UNIT

__all__ = ["FIRSTS", "add_rows", "normalise_row", "squares_about", "sum_units", "total_of"]

#: Where the vectors of a unit begin.
FIRSTS: Final = range(0, UNIT, lanes.LANES)


def _by_four(builder: Any, at: Any) -> Any:
    return builder.mul(at, ir.Constant(simd.I64, 4))


def sum_units(builder: Any, count: Any, partial: Any, terms: Callable[[Any, Any, list[Any]], list[Any]]) -> Any:
    """Store 16 sums, which add up to that of a row of ``terms(byte offset of a unit, rest, 4 totals) -> 4 totals``.

    They go to the address `partial`. Four totals take turns, so that none waits for itself.
    """
    slots = [cgutils.alloca_once(builder, lanes.FLOATS) for _ in FIRSTS]
    for slot in slots:
        builder.store(ir.Constant(lanes.FLOATS, None), slot)

    def unit(at: Any, rest: Any) -> None:
        totals = terms(_by_four(builder, at), rest, [builder.load(slot) for slot in slots])
        for total, slot in zip(totals, slots, strict=True):
            builder.store(total, slot)

    each_unit(builder, count, unit)
    a, b, c, d = (builder.load(slot) for slot in slots)
    total = simd.fadd(builder, simd.fadd(builder, a, b), simd.fadd(builder, c, d))
    lanes.store_floats(builder, partial, 0, total)
    return zero()


@simd.emitter
def total_of(context: Any, x: Any, count: Any, partial: Any) -> Any:
    """Sum `count` float32 at the address x, as 16 sums at `partial`."""

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        x, count, partial = given

        def terms(nbytes: Any, rest: Any, totals: list[Any]) -> list[Any]:
            values = [lanes.load_floats(builder, builder.add(x, nbytes), first, rest) for first in FIRSTS]
            return [simd.fadd(builder, total, value) for total, value in zip(totals, values, strict=True)]

        return sum_units(builder, count, partial, terms)

    return types.intp(*[types.intp] * 3), generate


@simd.emitter
def add_rows(context: Any, a: Any, b: Any, y: Any, count: Any, partial: Any) -> Any:
    """``y = a + b`` of `count` float32 at addresses; sum y, as 16 sums at `partial`."""

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        *bases, count, partial = given

        def terms(nbytes: Any, rest: Any, totals: list[Any]) -> list[Any]:
            a, b, y = (builder.add(base, nbytes) for base in bases)
            sums = []
            for first, total in zip(FIRSTS, totals, strict=True):
                one, two = (lanes.load_floats(builder, place, first, rest) for place in (a, b))
                added = simd.fadd(builder, one, two)
                lanes.store_floats(builder, y, first, added, rest)
                sums.append(simd.fadd(builder, total, added))
            return sums

        return sum_units(builder, count, partial, terms)

    return types.intp(*[types.intp] * 5), generate


@simd.emitter
def squares_about(context: Any, x: Any, count: Any, partial: Any, mean: Any) -> Any:
    """Sum ``(x - mean)**2`` of `count` float32 at the address x, as 16 sums at `partial`."""

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        x, count, partial, mean = given
        means = lanes.broadcast_float(builder, mean)

        def terms(nbytes: Any, rest: Any, totals: list[Any]) -> list[Any]:
            place = builder.add(x, nbytes)
            # Lanes beyond the row are at the mean.
            values = [lanes.load_floats(builder, place, first, rest, means) for first in FIRSTS]
            distances = [simd.fsubtract(builder, value, means) for value in values]
            return [lanes.multiply_add(builder, d, d, total) for d, total in zip(distances, totals, strict=True)]

        return sum_units(builder, count, partial, terms)

    return types.intp(*[types.intp] * 3, types.float32), generate


@simd.emitter
def normalise_row(context: Any, x: Any, y: Any, count: Any, gamma: Any, beta: Any, mean: Any, factor: Any) -> Any:
    """``y = (x - mean) * factor * gamma + beta`` of `count` float32 at addresses."""

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        x, y, count, gamma, beta, mean, factor = given
        means, factors = (lanes.broadcast_float(builder, value) for value in (mean, factor))

        def normalise(at: Any, rest: Any) -> None:
            source, out, gammas, betas = (builder.add(base, _by_four(builder, at)) for base in (x, y, gamma, beta))
            for first in FIRSTS:
                distance = simd.fsubtract(builder, lanes.load_floats(builder, source, first, rest), means)
                weight = simd.fmultiply(builder, lanes.load_floats(builder, gammas, first, rest), factors)
                value = lanes.multiply_add(builder, distance, weight, lanes.load_floats(builder, betas, first, rest))
                lanes.store_floats(builder, out, first, value, rest)

        each_unit(builder, count, normalise)
        return zero()

    return types.intp(*[types.intp] * 5, types.float32, types.float32), generate
