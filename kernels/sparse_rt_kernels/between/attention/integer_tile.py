"""The register tile of attention's products of bytes, and what their sums become: scores, or bytes of the context."""

from collections.abc import Callable
from typing import Any, NamedTuple

from sparse_rt_kernels.jit.compilation import kernel_jit
from sparse_rt_kernels.jit.compiler import cgutils, types
from sparse_rt_kernels.jit.llvm import I32, I64
from sparse_rt_kernels.vectors import simd
from sparse_rt_kernels.vectors.lanes import broadcast_float
from sparse_rt_kernels.vectors.records import fields_of
from sparse_rt_kernels.vectors.registers import LANES, REGISTER, WORDS

__all__ = ["Products", "Rounding", "context_bytes", "scores"]


def _address(builder: Any, base: Any, stride: Any, count: int) -> Any:
    return builder.add(base, builder.mul(stride, I64(count)))


class Products(NamedTuple):
    """``starts[c] + shifts[r] + sum_sj a[r, s, j] b[s, c, j]``: ints, or IR i64 where code is emitted.

    Attributes
    ----------
    a, a_stride
        (rows, steps, 4) uint8, and bytes from row to row.
    b, b_stride
        (steps, columns, 4) int8, registers 64-byte aligned, and bytes from step to step.
    starts, shifts
        int32 for each column and each row.
    steps
        How many.
    """

    a: Any
    a_stride: Any
    b: Any
    b_stride: Any
    starts: Any
    shifts: Any
    steps: Any


class Rounding(NamedTuple):
    """``round(clip(sum * factor, low, high))``: float32 in kernels and where code is emitted."""

    factor: Any
    low: Any
    high: Any


def _sums(builder: Any, height: int, width: int, given: Products) -> list[list[Any]]:
    """Return the sums of a tile, [row][register of columns]."""
    a, a_stride, b, b_stride, starts, shifts, steps = given
    sources = [simd.pointer(builder, _address(builder, a, a_stride, row)) for row in range(height)]
    first = [
        simd.load(builder, simd.element(builder, simd.pointer(builder, starts), REGISTER * column), WORDS, REGISTER)
        for column in range(width)
    ]
    slots = []
    for row in range(height):
        place = simd.element(builder, simd.pointer(builder, shifts), 4 * row)
        shift = simd.broadcast(builder, simd.load(builder, place, I32, 4), LANES)
        slots.append([cgutils.alloca_once_value(builder, simd.add(builder, start, shift)) for start in first])
    here = cgutils.alloca_once_value(builder, simd.pointer(builder, b))
    with cgutils.for_range(builder, steps) as loop:
        line = builder.load(here)
        columns = [
            simd.load(builder, simd.element(builder, line, REGISTER * at), WORDS, REGISTER) for at in range(width)
        ]
        offset = builder.shl(loop.index, I64(2))
        for source, row_slots in zip(sources, slots, strict=True):
            four = simd.load(builder, simd.element(builder, source, offset), I32, 4)
            bytes_ = simd.broadcast(builder, four, LANES)
            for column, slot in zip(columns, row_slots, strict=True):
                builder.store(simd.dot_u8s8(builder, builder.load(slot), bytes_, column), slot)
        builder.store(simd.element(builder, line, b_stride), here)
    return [[builder.load(slot) for slot in row] for row in slots]


class _Rounder:
    """Sums times a factor, rounded half to even between two bounds."""

    def __init__(self, builder: Any, given: Rounding) -> None:
        self._factor, self._low, self._high = (broadcast_float(builder, value) for value in given)

    def words(self, builder: Any, total: Any) -> Any:
        """Return int32."""
        value = simd.fmultiply(builder, simd.to_float(builder, total), self._factor)
        # Rounding is monotone, so that what is clipped before is clipped after.
        value = simd.smaller(builder, simd.larger(builder, value, self._low), self._high)
        return simd.nearest_int(builder, value)


def _store_scores(builder: Any, words: list[Any], to: Any, scale: Any) -> None:
    """Store what the rounded scores stand for, as float32."""
    factor = broadcast_float(builder, scale)
    for number, word in enumerate(words):
        place = simd.element(builder, simd.pointer(builder, to), REGISTER * number)
        simd.store(builder, place, simd.fmultiply(builder, simd.to_float(builder, word), factor), REGISTER)


def _store_bytes(builder: Any, words: list[Any], to: Any, columns: Any, shift: Any) -> None:
    """Store `columns` bytes, after `shift` is added to each."""
    shifts = simd.broadcast(builder, builder.trunc(shift, I32), LANES)
    for number, word in enumerate(words):
        place = simd.element(builder, simd.pointer(builder, to), LANES * number)
        left = builder.sub(columns, I64(LANES * number))
        simd.store_first(builder, place, simd.narrow_to_byte(builder, simd.add(builder, word, shifts)), left)


def _each_tile(builder: Any, rows: Any, vectors: Any, tile: Callable[[int, int], None]) -> Any:
    """Emit ``tile(height, registers)`` for the tallest tile of at most `rows` rows; return its height."""

    def at_least(value: Any, least: int) -> Any:
        return builder.icmp_signed(">=", value, I64(least))

    def widths(height: int) -> None:
        with builder.if_else(at_least(vectors, 2), likely=True) as (pair, single):
            with pair:
                tile(height, 2)
            with single:
                tile(height, 1)

    with builder.if_else(at_least(rows, 8), likely=True) as (tall, lower):
        with tall:
            widths(8)
        with lower, builder.if_else(at_least(rows, 4)) as (four, one):
            with four:
                widths(4)
            with one:
                widths(1)
    heights = [I64(height) for height in (8, 4, 1)]
    return builder.select(at_least(rows, 8), heights[0], builder.select(at_least(rows, 4), *heights[1:]))


def _rounded(
    builder: Any, size: tuple[Any, Any], products: Any, rounding: Any, store: Callable[[int, Any], None]
) -> Any:
    """Emit ``store(row, rounded sums)`` for the rows of a tile; return how many; `size` is rows and registers left."""
    operands = fields_of(builder, Products, products)
    rounder = _Rounder(builder, fields_of(builder, Rounding, rounding))

    def tile(height: int, width: int) -> None:
        for row, values in enumerate(_sums(builder, height, width, operands)):
            store(row, [rounder.words(builder, value) for value in values])

    return _each_tile(builder, *size, tile)


@simd.emitter
def _score_tile(
    context: Any, rows: Any, vectors: Any, products: Any, y: Any, y_stride: Any, rounding: Any, scale: Any
) -> Any:
    """Compute :func:`scores` of the first rows, and of one or two registers of columns; return how many rows."""

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        rows, vectors, held, y, y_stride, bounds, scale = given

        def store(row: int, words: list[Any]) -> None:
            _store_scores(builder, words, _address(builder, y, y_stride, row), scale)

        return _rounded(builder, (rows, vectors), held, bounds, store)

    integer = types.intp
    return integer(integer, integer, products, integer, integer, rounding, types.float32), generate


@simd.emitter
def _byte_tile(
    context: Any, rows: Any, columns: Any, products: Any, y: Any, y_stride: Any, rounding: Any, zero_point: Any
) -> Any:
    """Compute :func:`context_bytes` of the first rows, and of up to 32 columns; return how many rows."""

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        rows, columns, held, y, y_stride, bounds, zero_point = given
        vectors = builder.udiv(builder.add(columns, I64(LANES - 1)), I64(LANES))

        def store(row: int, words: list[Any]) -> None:
            _store_bytes(builder, words, _address(builder, y, y_stride, row), columns, zero_point)

        return _rounded(builder, (rows, vectors), held, bounds, store)

    integer = types.intp
    return integer(integer, integer, products, integer, integer, rounding, integer), generate


@kernel_jit
def _part(p: Products, row: int, column: int) -> Products:
    """Return the products from a row and a column on."""
    a, b, starts = p.a + row * p.a_stride, p.b + 4 * column, p.starts + 4 * column
    return Products(a, p.a_stride, b, p.b_stride, starts, p.shifts + 4 * row, p.steps)


@kernel_jit
def scores(products: Products, y: int, y_stride: int, rows: int, vectors: int, rounding: Rounding, scale: Any) -> int:
    """``y[r, c] = rounded products * scale``, float32, of `rows` rows and `vectors` registers of columns."""
    for column in range(0, vectors, 2):
        to = y + REGISTER * column
        row = 0
        while row < rows:
            here = _part(products, row, LANES * column)
            row += _score_tile(rows - row, vectors - column, here, to + row * y_stride, y_stride, rounding, scale)
    return 0


@kernel_jit
def context_bytes(
    products: Products, y: int, y_stride: int, rows: int, columns: int, rounding: Rounding, zero_point: int
) -> int:
    """``y[r, c] = rounded products + zero_point``, bytes, of `rows` rows and `columns` columns."""
    for column in range(0, columns, 32):
        to = y + column
        row = 0
        while row < rows:
            here = _part(products, row, column)
            row += _byte_tile(rows - row, columns - column, here, to + row * y_stride, y_stride, rounding, zero_point)
    return 0
