"""One row: its sum, its squares about the mean, the row normalised.

All of it happens at a distance from the row's first element, which is exact where the row is nearly constant. So the
mean is a number of the size of the row's spread: however far away the row lies, no digit of that spread is lost.
"""

from collections.abc import Callable
from typing import Any, Final

from llvmlite import ir

from sparse_rt_kernels.jit.compiler import cgutils, types
from sparse_rt_kernels.jit.llvm import F32, I32, I64
from sparse_rt_kernels.vectors import lanes, simd
from sparse_rt_kernels.vectors.loops import each_choice, each_unit, zero
from sparse_rt_kernels.vectors.quantised_rows import FIRSTS, row_reader
from sparse_rt_kernels.vectors.registers import FLOATS

__all__ = ["add_rows", "normalise_row", "squares_about", "sum_units", "total_of"]


#: Elements that are added up before their sum is added to that of those before.
_STRETCH: Final = 4096


def _by_four(builder: Any, at: Any) -> Any:
    return builder.mul(at, I64(4))


def _store(builder: Any, y: Any, at: Any, values: list[Any], rest: Any) -> None:
    place = builder.add(y, _by_four(builder, at))
    for first, value in zip(FIRSTS, values, strict=True):
        lanes.store_floats(builder, place, first, value, rest)


def sum_units(builder: Any, count: Any, partial: Any, terms: Callable[[Any, Any, list[Any]], list[Any]]) -> Any:
    """Store 16 sums, which add up to that of a row of ``terms(first element, rest, 4 totals) -> 4 totals``.

    They go to the address `partial`. Four totals take turns, so that none waits for itself. After 4096 elements they
    are put aside and begin again: what is added to a large sum one by one loses digits, always the same ones.
    """
    slots = [cgutils.alloca_once(builder, FLOATS) for _ in FIRSTS]
    whole = cgutils.alloca_once(builder, FLOATS)
    builder.store(ir.Constant(FLOATS, None), whole)

    def unit(at: Any, rest: Any) -> None:
        totals = terms(at, rest, [builder.load(slot) for slot in slots])
        for total, slot in zip(totals, slots, strict=True):
            builder.store(total, slot)

    stretch = I64(_STRETCH)
    with cgutils.for_range_slice(builder, zero(), count, stretch, I64, inc=True) as (start, _):
        for slot in slots:
            builder.store(ir.Constant(FLOATS, None), slot)
        left = builder.sub(count, start)
        length = builder.select(builder.icmp_signed("<", left, stretch), left, stretch)
        each_unit(builder, length, lambda at, rest: unit(builder.add(start, at), rest))
        a, b, c, d = (builder.load(slot) for slot in slots)
        total = simd.fadd(builder, simd.fadd(builder, a, b), simd.fadd(builder, c, d))
        builder.store(simd.fadd(builder, builder.load(whole), total), whole)
    lanes.store_floats(builder, partial, 0, builder.load(whole))
    return zero()


def _first_of(builder: Any, base: Any, read: Callable[[Any, Any], list[Any]], is_quantised: int) -> Any:
    """Return the first element of a row as a float32."""
    if not is_quantised:
        return simd.load(builder, simd.pointer(builder, base), F32, 4)
    return builder.extract_element(read(zero(), I64(1))[0], I32(0))


def _distances(builder: Any, values: list[Any], origins: Any, rest: Any) -> list[Any]:
    """Return the distances of a unit's values from the origin; 0 beyond `rest`."""
    distances = [simd.fsubtract(builder, value, origins) for value in values]
    return [lanes.kept(builder, distance, first, rest) for first, distance in zip(FIRSTS, distances, strict=True)]


@simd.emitter
def total_of(context: Any, x: Any, y: Any, count: Any, partial: Any, x_block: Any) -> Any:
    """Return the first of `count` values at the address x, and sum their distances from it, as 16 sums at `partial`.

    They are stored at y if they are bytes. `x_block` is the address of :func:`quantised_rows.rows_block` for bytes, 0
    for float32.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        x, y, count, partial, x_block = given
        origin = cgutils.alloca_once(builder, F32)

        def total(is_quantised: int) -> None:
            read = row_reader(builder, x, x_block, is_quantised)
            first = _first_of(builder, x, read, is_quantised)
            origins = lanes.broadcast_float(builder, first)
            builder.store(first, origin)

            def terms(at: Any, rest: Any, totals: list[Any]) -> list[Any]:
                values = read(at, rest)
                if is_quantised:
                    _store(builder, y, at, values, rest)
                distances = _distances(builder, values, origins, rest)
                return [simd.fadd(builder, total, each) for total, each in zip(totals, distances, strict=True)]

            sum_units(builder, count, partial, terms)

        each_choice(builder, [x_block], total)
        return builder.load(origin)

    return types.float32(*[types.intp] * 5), generate


@simd.emitter
def add_rows(context: Any, a: Any, b: Any, y: Any, count: Any, partial: Any, a_block: Any, b_block: Any) -> Any:
    """``y = a + b`` of `count` values at addresses; return y's first, and sum y as :func:`total_of` does.

    `a_block` and `b_block` are the addresses of :func:`quantised_rows.rows_block` for bytes, 0 for float32.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        a, b, y, count, partial, a_block, b_block = given
        origin = cgutils.alloca_once(builder, F32)

        def add(a_quantised: int, b_quantised: int) -> None:
            readers = (row_reader(builder, a, a_block, a_quantised), row_reader(builder, b, b_block, b_quantised))
            sides = zip((a, b), readers, (a_quantised, b_quantised), strict=True)
            first = simd.fadd(builder, *(_first_of(builder, *side) for side in sides))
            origins = lanes.broadcast_float(builder, first)
            builder.store(first, origin)

            def terms(at: Any, rest: Any, totals: list[Any]) -> list[Any]:
                pairs = zip(*(read(at, rest) for read in readers), strict=True)
                sums = [simd.fadd(builder, one, two) for one, two in pairs]
                _store(builder, y, at, sums, rest)
                distances = _distances(builder, sums, origins, rest)
                return [simd.fadd(builder, total, each) for total, each in zip(totals, distances, strict=True)]

            sum_units(builder, count, partial, terms)

        each_choice(builder, [a_block, b_block], add)
        return builder.load(origin)

    return types.float32(*[types.intp] * 7), generate


@simd.emitter
def squares_about(context: Any, x: Any, count: Any, partial: Any, origin: Any, mean: Any) -> Any:
    """Sum ``((x - origin) - mean)**2`` of `count` float32 at the address x, as 16 sums at `partial`."""

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        x, count, partial, *places = given
        origins, means = (lanes.broadcast_float(builder, value) for value in places)

        def terms(at: Any, rest: Any, totals: list[Any]) -> list[Any]:
            place = builder.add(x, _by_four(builder, at))
            values = [lanes.load_floats(builder, place, first, rest) for first in FIRSTS]
            distances = [simd.fsubtract(builder, value, origins) for value in values]
            distances = _distances(builder, distances, means, rest)
            return [lanes.multiply_add(builder, d, d, total) for d, total in zip(distances, totals, strict=True)]

        return sum_units(builder, count, partial, terms)

    return types.intp(*[types.intp] * 3, types.float32, types.float32), generate


@simd.emitter
def normalise_row(
    context: Any, x: Any, y: Any, count: Any, gamma: Any, beta: Any, origin: Any, mean: Any, factor: Any
) -> Any:
    """``y = ((x - origin) - mean) * factor * gamma + beta`` of `count` float32 at addresses."""

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        x, y, count, gamma, beta, *numbers = given
        origins, means, factors = (lanes.broadcast_float(builder, value) for value in numbers)

        def normalise(at: Any, rest: Any) -> None:
            source, out, gammas, betas = (builder.add(base, _by_four(builder, at)) for base in (x, y, gamma, beta))
            for first in FIRSTS:
                distance = simd.fsubtract(builder, lanes.load_floats(builder, source, first, rest), origins)
                # A factor times gamma alone might overflow.
                value = simd.fmultiply(builder, simd.fsubtract(builder, distance, means), factors)
                weights, shifts = (lanes.load_floats(builder, place, first, rest) for place in (gammas, betas))
                lanes.store_floats(builder, out, first, lanes.multiply_add(builder, value, weights, shifts), rest)

        each_unit(builder, count, normalise)
        return zero()

    return types.intp(*[types.intp] * 5, *[types.float32] * 3), generate
