"""Softmax of rows of float32."""

from typing import Any

import numpy as np

from sparse_rt_kernels.jit.compiler import carray, cgutils, types
from sparse_rt_kernels.jit.llvm import I64
from sparse_rt_kernels.threads.launch import Launch, Phase
from sparse_rt_kernels.threads.parts import part_bounds, worthwhile_parts
from sparse_rt_kernels.threads.workspace import as_pointer
from sparse_rt_kernels.vectors import lanes, simd
from sparse_rt_kernels.vectors.across import fold_largest, fold_sums
from sparse_rt_kernels.vectors.exponential import add_exponentials
from sparse_rt_kernels.vectors.groups import GROUP, GROUP_BYTES, group_rows
from sparse_rt_kernels.vectors.loops import each_unit, zero
from sparse_rt_kernels.vectors.moments import sum_units
from sparse_rt_kernels.vectors.quantised_rows import FIRSTS
from sparse_rt_kernels.vectors.registers import FLOATS

__all__ = ["prepare_softmax"]

_RECORD = np.dtype([(name, "i8") for name in ("rows", "parts", "columns", "group")])
#: Of one element, and of one row, on one core.
_NANOSECONDS, _ROW_NANOSECONDS = 0.15, 30.0


@simd.emitter
def _largest(context: Any, x: Any, count: Any, partial: Any) -> Any:
    """Store 16 float32 at `partial`, one of which is the largest of `count` at the address x that is not NaN."""

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        x, count, partial = given
        least = lanes.constant(-np.inf)
        slots = [cgutils.alloca_once(builder, FLOATS) for _ in FIRSTS]
        for slot in slots:
            builder.store(least, slot)

        def unit(at: Any, rest: Any) -> None:
            place = builder.add(x, builder.mul(at, I64(4)))
            for first, slot in zip(FIRSTS, slots, strict=True):
                value = lanes.load_floats(builder, place, first, rest, least)
                builder.store(simd.larger(builder, value, builder.load(slot)), slot)

        each_unit(builder, count, unit)
        a, b, c, d = (builder.load(slot) for slot in slots)
        largest = simd.larger(builder, simd.larger(builder, a, b), simd.larger(builder, c, d))
        lanes.store_floats(builder, partial, 0, largest)
        return zero()

    return types.intp(*[types.intp] * 3), generate


@simd.emitter
def _exponentials(context: Any, x: Any, y: Any, count: Any, partial: Any, ahead: Any, largest: Any) -> Any:
    """``y = exp(x - largest)`` of `count` float32 at addresses; sum y, as 16 sums at `partial`.

    What lies `ahead` bytes after x is called into L1 meanwhile: finding the largest of the rows that come next does
    nothing but wait for memory.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        x, y, count, partial, ahead, largest = given
        shift = lanes.broadcast_float(builder, largest)

        def terms(at: Any, rest: Any, totals: list[Any]) -> list[Any]:
            nbytes = builder.mul(at, I64(4))
            source, place = builder.add(x, nbytes), builder.add(y, nbytes)
            values = [lanes.load_floats(builder, source, first, rest) for first in FIRSTS]
            for first in FIRSTS:
                simd.prefetch(
                    builder,
                    simd.pointer(builder, builder.add(source, builder.add(ahead, I64(4 * first)))),
                    1,
                )
            return add_exponentials(builder, values, shift, place, rest, totals)

        return sum_units(builder, count, partial, terms)

    return types.intp(*[types.intp] * 5, types.float32), generate


@simd.emitter
def _scale(context: Any, y: Any, count: Any, factor: Any) -> Any:
    """``y *= factor`` of `count` float32 at the address y."""

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        y, count, factor = given
        factors = lanes.broadcast_float(builder, factor)

        def unit(at: Any, rest: Any) -> None:
            place = builder.add(y, builder.mul(at, I64(4)))
            for first in FIRSTS:
                value = simd.fmultiply(builder, lanes.load_floats(builder, place, first, rest), factors)
                lanes.store_floats(builder, place, first, value, rest)

        each_unit(builder, count, unit)
        return zero()

    return types.intp(types.intp, types.intp, types.float32), generate


def _softmax_task(task: int, arguments: Any, x: int, other: int, out: int, shared: int, scratch: int) -> int:
    """Do one part of the rows, a group at a time; scratch holds the group's 16 x 16 partial results and 16 results."""
    r = carray(arguments, (1,), _RECORD)[0]
    columns, row_bytes = r.columns, 4 * r.columns
    results = carray(as_pointer(scratch + GROUP_BYTES), (GROUP,), np.float32)
    begin, end = part_bounds(r.rows, 1, task, r.parts)
    for first in range(begin, end, r.group):
        x_row, y_row = x + first * row_bytes, out + first * row_bytes
        rows = min(r.group, end - first)
        for row in range(rows):
            _largest(x_row + row * row_bytes, columns, scratch + 64 * row)
        fold_largest(scratch, scratch + GROUP_BYTES)
        for row in range(rows):
            at = row * row_bytes
            _exponentials(x_row + at, y_row + at, columns, scratch + 64 * row, r.group * row_bytes, results[row])
        fold_sums(scratch, scratch + GROUP_BYTES)
        for row in range(rows):
            _scale(y_row + row * row_bytes, columns, np.float32(1) / results[row])
    return 0


def prepare_softmax(rows: int, columns: int, threads: int) -> Launch:
    """Prepare ``y = exp(x) / sum(exp(x))`` over rows: ``launch.run(x, y, pool)``.

    Both are float32, (rows, columns), C-contiguous; `y` may be `x`. The largest element of a row is subtracted first,
    so that nothing overflows. With the difference d = largest - x, the relative error is below
    ``e (d + columns / 4096 + 70)``, e = 2**-24; results below 1.2e-38 have fewer digits, and what is
    less than exp(-87.3) of the largest is 0. A row that
    holds NaN, or inf, or nothing but -inf, has no softmax: its result is NaN.
    """
    parts = min(rows, worthwhile_parts(rows * (columns * _NANOSECONDS + _ROW_NANOSECONDS), threads))
    return Launch(
        [Phase(_softmax_task, np.array([(rows, parts, columns, group_rows(columns))], _RECORD), parts)],
        0,
        GROUP_BYTES + 64,
    )
