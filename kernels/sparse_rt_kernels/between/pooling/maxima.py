"""SIMD maxima of rows and of neighbouring columns, for any CPU: plain vectors, which LLVM splits where it must.

Each is a Numba intrinsic on addresses (intp) that returns an intp: Numba may drop a call that returns nothing. A row
of items is worked off in vectors of the largest size that it holds one of; the last vector overlaps the one before, so
that nothing beyond the row is written.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from sparse_rt_kernels.jit.compiler import cgutils, types
from sparse_rt_kernels.jit.llvm import F32, I8, I64
from sparse_rt_kernels.vectors import simd
from sparse_rt_kernels.vectors.loops import first_that_fits
from sparse_rt_kernels.vectors.records import fields_of

__all__ = [
    "FLOAT32",
    "INT8",
    "ITEMS",
    "UINT8",
    "Results",
    "Rows",
    "largest_of_columns",
    "largest_of_rows",
    "repeat_edges",
]

#: What is compared.
UINT8: Final = 0
INT8: Final = 1
FLOAT32: Final = 2
#: By dtype character.
ITEMS: Final = {"B": UINT8, "b": INT8, "f": FLOAT32}

_ITEMS: Final = {UINT8: I8, INT8: I8, FLOAT32: F32}
_BYTES: Final = {UINT8: 1, INT8: 1, FLOAT32: 4}
#: Lanes of the vectors to choose from; the last size fits every row.
_LANES: Final = {UINT8: (64, 32, 16, 8, 4, 1), INT8: (64, 32, 16, 8, 4, 1), FLOAT32: (16, 8, 4, 1)}


def _larger(builder: Any, item: int, a: Any, b: Any) -> Any:
    """Return a where a > b, else b: if either is NaN, b."""
    if item == FLOAT32:
        return simd.larger(builder, a, b)
    compare = builder.icmp_unsigned if item == UINT8 else builder.icmp_signed
    return builder.select(compare(">", a, b), a, b)


def _largest(builder: Any, item: int, first: Any, stride: Any, count: Any, kind: Any) -> Any:
    """Return the largest, lane by lane, of `count` vectors that begin `stride` bytes apart; an int is unrolled."""
    value = simd.load(builder, simd.pointer(builder, first), kind)
    if isinstance(count, int):
        for number in range(1, count):
            place = simd.pointer(builder, builder.add(first, builder.mul(I64(number), stride)))
            value = _larger(builder, item, value, simd.load(builder, place, kind))
        return value
    slot = cgutils.alloca_once(builder, kind)
    builder.store(value, slot)
    with cgutils.for_range_slice(builder, I64(1), count, I64(1), I64, inc=True) as (number, _):
        place = simd.pointer(builder, builder.add(first, builder.mul(number, stride)))
        builder.store(_larger(builder, item, builder.load(slot), simd.load(builder, place, kind)), slot)
    return builder.load(slot)


def _each_vector(
    builder: Any, sizes: Sequence[int], rows: Any, width: Any, count: Any, emit: Callable[[int, Any, Any, Any], None]
) -> None:
    """Emit ``emit(lanes, row, first, count)`` for vectors that cover `width` items of each row.

    Windows of 3 are the common ones: they get code of their own, in which `count` is an int.
    """

    def loops(lanes: int) -> None:
        last = builder.sub(width, I64(lanes))
        blocks = builder.udiv(builder.add(width, I64(lanes - 1)), I64(lanes))
        with builder.if_else(builder.icmp_signed("==", count, I64(3)), likely=True) as branches:
            for branch, known in zip(branches, (3, count), strict=True):
                with branch, cgutils.for_range(builder, rows) as row, cgutils.for_range(builder, blocks) as block:
                    first = builder.mul(block.index, I64(lanes))
                    first = builder.select(builder.icmp_signed("<", first, last), first, last)
                    emit(lanes, row.index, first, known)

    first_that_fits(builder, sizes, width, loops)


class Rows(NamedTuple):
    """Rows in memory: ints, or IR i64 where code is emitted.

    Attributes
    ----------
    first, pitch
        Address of the first item, and bytes from row to row.
    """

    first: Any
    pitch: Any


class Results(NamedTuple):
    """Where largest items go, which must not overlap what is read: ints, or IR i64 where code is emitted.

    Attributes
    ----------
    first, pitch
        Address of the first item, and bytes from row to row.
    rows, width
        How many, and items of each, at least 1.
    """

    first: Any
    pitch: Any
    rows: Any
    width: Any


def _place(builder: Any, base: Any, row: Any, pitch: Any, offset: Any) -> Any:
    return builder.add(builder.add(base, builder.mul(row, pitch)), offset)


@simd.emitter
def largest_of_rows(context: Any, item: Any, source: Any, count: Any, step: Any, results: Any) -> Any:
    """``target[p, i] = max_r source[p * step + r, i]``: the largest of `count` rows, item by item.

    The first row is compared with the second, the larger one with the third: ``a if a > b else b``, so that a NaN
    gives way to what follows it.

    Parameters
    ----------
    item
        Literal int: UINT8, INT8 or FLOAT32.
    source, results
        :class:`Rows` and :class:`Results`.
    count
        Rows of a window, at least 1.
    step
        Bytes from window to window.
    """

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        _, read, count, step, written = given
        a, y = fields_of(builder, Rows, read), fields_of(builder, Results, written)
        kind = item.literal_value

        def emit(lanes: int, row: Any, first: Any, known: Any) -> None:
            offset = builder.mul(first, I64(_BYTES[kind]))
            vector = simd.vector(_ITEMS[kind], lanes)
            value = _largest(builder, kind, _place(builder, a.first, row, step, offset), a.pitch, known, vector)
            simd.store(builder, simd.pointer(builder, _place(builder, y.first, row, y.pitch, offset)), value)

        _each_vector(builder, _LANES[kind], y.rows, y.width, count, emit)
        return I64(0)

    return types.intp(item, source, types.intp, types.intp, results), generate


@simd.emitter
def largest_of_columns(context: Any, item: Any, step: Any, source: Any, count: Any, results: Any) -> Any:
    """``target[p, i] = max_s source[p, i * step + s]``: the largest of `count` neighbours, compared in their order.

    Parameters
    ----------
    item
        Literal int: UINT8, INT8 or FLOAT32.
    step
        Literal int: 1 or 2.
    source, results
        :class:`Rows`, of each of which ``step * width + count - 1`` items are read, and :class:`Results`.
    count
        Columns of a window, at least 1.
    """

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        _, _, read, count, written = given
        a, y = fields_of(builder, Rows, read), fields_of(builder, Results, written)
        kind, every = item.literal_value, step.literal_value
        itemsize = _BYTES[kind]

        def emit(lanes: int, row: Any, first: Any, known: Any) -> None:
            vector = simd.vector(_ITEMS[kind], lanes * every)
            place = _place(builder, a.first, row, a.pitch, builder.mul(first, I64(itemsize * every)))
            value = _largest(builder, kind, place, I64(itemsize), known, vector)
            if every > 1:
                value = simd.shuffle(builder, value, value, range(0, lanes * every, every))
            place = _place(builder, y.first, row, y.pitch, builder.mul(first, I64(itemsize)))
            simd.store(builder, simd.pointer(builder, place), value)

        sizes = [lanes // every for lanes in _LANES[kind] if lanes >= every]
        _each_vector(builder, sizes if sizes[-1] == 1 else [*sizes, 1], y.rows, y.width, count, emit)
        return I64(0)

    return types.intp(item, step, source, types.intp, results), generate


@simd.emitter
def repeat_edges(context: Any, item: Any, inner: Any, before: Any, after: Any) -> Any:
    """Write the first item of each row to the `before` places before it, the last one to `after` places behind.

    Parameters
    ----------
    item
        Literal int: UINT8, INT8 or FLOAT32.
    inner
        :class:`Results`: the rows.
    """

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        _, held, before, after = given
        rows = fields_of(builder, Results, held)
        kind = _ITEMS[item.literal_value]
        itemsize = I64(_BYTES[item.literal_value])
        with cgutils.for_range(builder, rows.rows) as row:
            first = builder.add(rows.first, builder.mul(row.index, rows.pitch))
            end = builder.add(first, builder.mul(rows.width, itemsize))
            ahead = builder.sub(first, builder.mul(before, itemsize))
            for source, target, count in ((first, ahead, before), (builder.sub(end, itemsize), end, after)):
                value = simd.load(builder, simd.pointer(builder, source), kind)
                with cgutils.for_range(builder, count) as each:
                    place = builder.add(target, builder.mul(each.index, itemsize))
                    simd.store(builder, simd.pointer(builder, place), value)
        return I64(0)

    return types.intp(item, inner, types.intp, types.intp), generate
