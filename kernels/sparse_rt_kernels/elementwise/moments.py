"""One row: its sum, its squares about the mean, the row normalised."""

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from sparse_rt_kernels import simd
from sparse_rt_kernels.compiler import cgutils, types
from sparse_rt_kernels.elementwise import lanes
from sparse_rt_kernels.elementwise.loops import each_choice, each_unit, zero
from sparse_rt_kernels.elementwise.quantised_rows import FIRSTS, row_reader

__all__ = ["add_rows", "normalise_row", "squares_about", "sum_units", "total_of"]


def _by_four(builder: Any, at: Any) -> Any:
    return builder.mul(at, ir.Constant(simd.I64, 4))


def _store(builder: Any, y: Any, at: Any, values: list[Any], rest: Any) -> None:
    place = builder.add(y, _by_four(builder, at))
    for first, value in zip(FIRSTS, values, strict=True):
        lanes.store_floats(builder, place, first, value, rest)


def sum_units(builder: Any, count: Any, partial: Any, terms: Callable[[Any, Any, list[Any]], list[Any]]) -> Any:
    """Store 16 sums, which add up to that of a row of ``terms(first element, rest, 4 totals) -> 4 totals``.

    They go to the address `partial`. Four totals take turns, so that none waits for itself.
    """
    slots = [cgutils.alloca_once(builder, lanes.FLOATS) for _ in FIRSTS]
    for slot in slots:
        builder.store(ir.Constant(lanes.FLOATS, None), slot)

    def unit(at: Any, rest: Any) -> None:
        totals = terms(at, rest, [builder.load(slot) for slot in slots])
        for total, slot in zip(totals, slots, strict=True):
            builder.store(total, slot)

    each_unit(builder, count, unit)
    a, b, c, d = (builder.load(slot) for slot in slots)
    total = simd.fadd(builder, simd.fadd(builder, a, b), simd.fadd(builder, c, d))
    lanes.store_floats(builder, partial, 0, total)
    return zero()


@simd.emitter
def total_of(context: Any, x: Any, y: Any, count: Any, partial: Any, x_block: Any) -> Any:
    """Sum `count` values at the address x, as 16 sums at `partial`; store them at y if they are bytes.

    `x_block` is the address of :func:`quantised_rows.rows_block` for bytes, 0 for float32.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        x, y, count, partial, x_block = given

        def total(is_quantised: int) -> None:
            read = row_reader(builder, x, x_block, is_quantised)

            def terms(at: Any, rest: Any, totals: list[Any]) -> list[Any]:
                values = read(at, rest)
                if is_quantised:
                    _store(builder, y, at, values, rest)
                return [simd.fadd(builder, total, value) for total, value in zip(totals, values, strict=True)]

            sum_units(builder, count, partial, terms)

        each_choice(builder, [x_block], total)
        return zero()

    return types.intp(*[types.intp] * 5), generate


@simd.emitter
def add_rows(context: Any, a: Any, b: Any, y: Any, count: Any, partial: Any, a_block: Any, b_block: Any) -> Any:
    """``y = a + b`` of `count` values at addresses; sum y, as 16 sums at `partial`.

    `a_block` and `b_block` are the addresses of :func:`quantised_rows.rows_block` for bytes, 0 for float32.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        a, b, y, count, partial, a_block, b_block = given

        def add(a_quantised: int, b_quantised: int) -> None:
            readers = (row_reader(builder, a, a_block, a_quantised), row_reader(builder, b, b_block, b_quantised))

            def terms(at: Any, rest: Any, totals: list[Any]) -> list[Any]:
                pairs = zip(*(read(at, rest) for read in readers), strict=True)
                sums = [simd.fadd(builder, one, two) for one, two in pairs]
                _store(builder, y, at, sums, rest)
                return [simd.fadd(builder, total, value) for total, value in zip(totals, sums, strict=True)]

            sum_units(builder, count, partial, terms)

        each_choice(builder, [a_block, b_block], add)
        return zero()

    return types.intp(*[types.intp] * 7), generate


@simd.emitter
def squares_about(context: Any, x: Any, count: Any, partial: Any, mean: Any) -> Any:
    """Sum ``(x - mean)**2`` of `count` float32 at the address x, as 16 sums at `partial`."""

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        x, count, partial, mean = given
        means = lanes.broadcast_float(builder, mean)

        def terms(at: Any, rest: Any, totals: list[Any]) -> list[Any]:
            place = builder.add(x, _by_four(builder, at))
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
