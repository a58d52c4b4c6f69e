"""Moves of planes in and out of their layout, for any CPU: plain vectors, which LLVM splits where it must.

Each is a Numba intrinsic on addresses (intp) that returns an intp: Numba may drop a call that returns nothing.
"""

from typing import Any, Final, NamedTuple

from sparse_rt_kernels.jit.compiler import cgutils, types
from sparse_rt_kernels.jit.llvm import F32, I8, I32, I64
from sparse_rt_kernels.vectors import simd
from sparse_rt_kernels.vectors.loops import first_that_fits
from sparse_rt_kernels.vectors.records import fields_of
from sparse_rt_kernels.vectors.registers import FLOATS

__all__ = ["Grid", "copy_rows", "fill_words", "float_at", "separate_pairs", "word_at"]

#: Bytes of the vectors to choose from; the last fits every row.
_SIZES: Final = (64, 32, 16, 8, 4, 2, 1)


class Grid(NamedTuple):
    """Planes of rows in memory: ints, or IR i64 where code is emitted.

    Attributes
    ----------
    first
        Address of the first plane's first row.
    plane, row
        Bytes from plane to plane, and from row to row.
    """

    first: Any
    plane: Any
    row: Any


def _row(builder: Any, grid: Grid, plane: Any, row: Any) -> Any:
    """Return the address of a row."""
    begin = builder.add(grid.first, builder.mul(plane, grid.plane))
    return builder.add(begin, builder.mul(row, grid.row))


@simd.emitter
def copy_rows(context: Any, source: Any, target: Any, planes: Any, rows: Any, width: Any, flip: Any) -> Any:
    """``target[i, p, q] = source[i, p, q] ^ flip`` for planes of rows of `width` bytes, at least 1, in two grids.

    The last vector of a row overlaps the one before, so that nothing beyond the row is read or written.
    """

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        read, written = (fields_of(builder, Grid, grid) for grid in given[:2])
        planes, rows, width, flip = given[2:]
        flips = builder.trunc(flip, I8)

        def move(size: int, begin: Any, end: Any, first: Any) -> None:
            value = simd.load(builder, simd.pointer(builder, builder.add(begin, first)), simd.vector(I8, size))
            value = simd.bitwise_xor(builder, value, simd.broadcast(builder, flips, size))
            simd.store(builder, simd.pointer(builder, builder.add(end, first)), value)

        def copy(size: int) -> None:
            last = builder.sub(width, I64(size))
            with cgutils.for_range(builder, planes) as plane, cgutils.for_range(builder, rows) as row:
                begin, end = (_row(builder, grid, plane.index, row.index) for grid in (read, written))
                if size < _SIZES[0]:
                    # Less than two vectors wide, or the size above would have fitted.
                    move(size, begin, end, I64(0))
                else:
                    with cgutils.for_range_slice(builder, I64(0), last, I64(size), I64, inc=True) as (first, _):
                        move(size, begin, end, first)
                move(size, begin, end, last)

        first_that_fits(builder, _SIZES, width, copy)
        return I64(0)

    return types.intp(source, target, *[types.intp] * 4), generate


@simd.emitter
def fill_words(context: Any, target: Any, count: Any, word: Any) -> Any:
    """Fill `count` x 64 bytes with a word of 4 bytes; `target` is 64-byte aligned."""

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        target, count, word = given
        value = simd.broadcast(builder, builder.trunc(word, I32), 16)
        with cgutils.for_range(builder, count) as each:
            place = builder.add(target, builder.mul(each.index, I64(64)))
            simd.store(builder, simd.pointer(builder, place), value, 64)
        return I64(0)

    return types.intp(*[types.intp] * 3), generate


@simd.emitter
def separate_pairs(context: Any, source: Any, even: Any, odd: Any, blocks: Any) -> Any:
    """``even[i] = source[2 i]; odd[i] = source[2 i + 1]`` for `blocks` x 16 float32 of each."""

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        source, even, odd, blocks = given
        # One after the other: the last block of even items may reach into the odd ones.
        for target, first in ((even, 0), (odd, 1)):
            with cgutils.for_range(builder, blocks) as each:
                place = simd.pointer(builder, builder.add(source, builder.mul(each.index, I64(128))))
                low = simd.load(builder, place, FLOATS)
                high = simd.load(builder, simd.element(builder, place, 64), FLOATS)
                at = builder.add(target, builder.mul(each.index, I64(64)))
                value = simd.shuffle(builder, low, high, range(first, 32, 2))
                simd.store(builder, simd.pointer(builder, at), value)
        return I64(0)

    return types.intp(*[types.intp] * 4), generate


@simd.emitter
def word_at(context: Any, address: Any) -> Any:
    """Return the int32 at an address."""

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        return builder.sext(simd.load(builder, simd.pointer(builder, given[0]), I32, 4), I64)

    return types.intp(types.intp), generate


@simd.emitter
def float_at(context: Any, address: Any) -> Any:
    """Return the float32 at an address."""

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        return simd.load(builder, simd.pointer(builder, given[0]), F32, 4)

    return types.float32(types.intp), generate
