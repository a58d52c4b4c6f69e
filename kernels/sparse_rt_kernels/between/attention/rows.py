"""One row of scores: scaled and masked, its largest, its exponentials, and a row of the context finished."""

from typing import Any

import numpy as np

from sparse_rt_kernels.jit.compiler import cgutils, types
from sparse_rt_kernels.jit.llvm import I64
from sparse_rt_kernels.vectors import lanes, simd
from sparse_rt_kernels.vectors.exponential import add_exponentials
from sparse_rt_kernels.vectors.loops import each_choice, each_unit, zero
from sparse_rt_kernels.vectors.moments import sum_units
from sparse_rt_kernels.vectors.quantised_rows import FIRSTS
from sparse_rt_kernels.vectors.registers import FLOATS

__all__ = ["exponentials", "scale_row", "scaled_largest"]


def _by_four(builder: Any, at: Any) -> Any:
    return builder.mul(at, I64(4))


@simd.emitter
def scaled_largest(context: Any, x: Any, mask: Any, count: Any, partial: Any, scale: Any) -> Any:
    """``x = x * scale + mask`` of `count` float32; store 16 at `partial`, one of which is the largest that is not NaN.

    `mask` is an address, or 0 for none.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        x, mask, count, partial, scale = given
        factor, least = lanes.broadcast_float(builder, scale), lanes.constant(-np.inf)
        slots = [cgutils.alloca_once(builder, FLOATS) for _ in FIRSTS]
        for slot in slots:
            builder.store(least, slot)

        def row(is_masked: int) -> None:
            def unit(at: Any, rest: Any) -> None:
                place, other = (builder.add(base, _by_four(builder, at)) for base in (x, mask))
                for first, slot in zip(FIRSTS, slots, strict=True):
                    value = simd.fmultiply(builder, lanes.load_floats(builder, place, first, rest, least), factor)
                    if is_masked:
                        value = simd.fadd(builder, value, lanes.load_floats(builder, other, first, rest))
                    lanes.store_floats(builder, place, first, value, rest)
                    builder.store(simd.larger(builder, value, builder.load(slot)), slot)

            each_unit(builder, count, unit)

        each_choice(builder, [mask], row)
        a, b, c, d = (builder.load(slot) for slot in slots)
        largest = simd.larger(builder, simd.larger(builder, a, b), simd.larger(builder, c, d))
        lanes.store_floats(builder, partial, 0, largest)
        return zero()

    return types.intp(*[types.intp] * 4, types.float32), generate


@simd.emitter
def exponentials(context: Any, x: Any, count: Any, partial: Any, largest: Any) -> Any:
    """``x = exp(x - largest)`` of `count` float32; their sum, as 16 sums at `partial`."""

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        x, count, partial, largest = given
        shift = lanes.broadcast_float(builder, largest)

        def terms(at: Any, rest: Any, totals: list[Any]) -> list[Any]:
            place = builder.add(x, _by_four(builder, at))
            values = [lanes.load_floats(builder, place, first, rest) for first in FIRSTS]
            return add_exponentials(builder, values, shift, place, rest, totals)

        return sum_units(builder, count, partial, terms)

    return types.intp(*[types.intp] * 3, types.float32), generate


@simd.emitter
def scale_row(context: Any, x: Any, y: Any, count: Any, factor: Any) -> Any:
    """``y = x * factor`` of `count` float32; y may be x."""

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        x, y, count, factor = given
        factors = lanes.broadcast_float(builder, factor)

        def unit(at: Any, rest: Any) -> None:
            source, place = (builder.add(base, _by_four(builder, at)) for base in (x, y))
            for first in FIRSTS:
                value = simd.fmultiply(builder, lanes.load_floats(builder, source, first, rest), factors)
                lanes.store_floats(builder, place, first, value, rest)

        each_unit(builder, count, unit)
        return zero()

    return types.intp(*[types.intp] * 3, types.float32), generate
