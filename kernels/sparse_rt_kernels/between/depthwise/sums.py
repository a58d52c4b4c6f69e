"""The sums of a block of output pixels, emitted: what integers and floats have in common."""

from collections.abc import Callable
from typing import Any, NamedTuple

from sparse_rt_kernels.between.depthwise.operands import TapTable
from sparse_rt_kernels.jit.compiler import cgutils
from sparse_rt_kernels.jit.llvm import I64
from sparse_rt_kernels.vectors import simd

__all__ = ["Taps", "emit_sums"]


class Taps(NamedTuple):
    """Which taps a block is unrolled for.

    Attributes
    ----------
    rows, columns
        Of the kernel, in units of one weight operand; 0 rows for a loop over as many taps as there are.
    together
        Output rows whose sums are built at once, from ``(together - 1) * down + rows`` input rows.
    down
        Row stride; of no matter for one row.
    """

    rows: int
    columns: int
    together: int
    down: int


def _item(builder: Any, table: Any, number: Any, kind: Any) -> Any:
    """Return item `number` of a table of `kind`."""
    size = 8 if kind == I64 else 4
    if isinstance(number, int):
        number = I64(number)
    place = builder.add(table, builder.mul(number, I64(size)))
    return simd.load(builder, simd.pointer(builder, place), kind, size)


def emit_sums(
    builder: Any,
    taps: Taps,
    table: TapTable,
    weight: Any,
    first: list[list[Any]],
    read: Callable[[Any, int], Any],
    multiply: Callable[[Any, Any, Any], Any],
) -> list[list[Any]]:
    """Return ``sums[p][v] = first[p][v] + sum over taps of weight * what the tap reads``.

    Parameters
    ----------
    taps, table
        Which of them are unrolled, and where they lie (IR i64).
    weight
        The IR type of a tap's weight.
    first
        Vectors that sums begin with, for each row computed together.
    read
        Given an offset and v, the vector at this offset of vector v.
    multiply
        Given a sum, a vector and a weight in every lane, the new sum.
    """
    vectors = range(len(first[0]))
    lanes = first[0][0].type.count

    def operand(number: Any) -> Any:
        return simd.broadcast(builder, _item(builder, table.weights, number, weight), lanes)

    if taps.rows:
        sums = [list(row) for row in first]
        operands = [operand(number) for number in range(taps.rows * taps.columns)]
        for place in range(((taps.together - 1) * taps.down + taps.rows) * taps.columns):
            row, column = divmod(place, taps.columns)
            offset = _item(builder, table.offsets, place, I64)
            reading = [r for r in range(taps.together) if 0 <= row - r * taps.down < taps.rows]
            for v in vectors:
                value = read(offset, v)
                for r in reading:
                    sums[r][v] = multiply(sums[r][v], value, operands[(row - r * taps.down) * taps.columns + column])
        return sums
    slots = [cgutils.alloca_once(builder, value.type) for value in first[0]]
    for slot, value in zip(slots, first[0], strict=True):
        builder.store(value, slot)
    with cgutils.for_range(builder, table.count) as loop:
        offset, held = _item(builder, table.offsets, loop.index, I64), operand(loop.index)
        for v, slot in enumerate(slots):
            builder.store(multiply(builder.load(slot), read(offset, v), held), slot)
    return [[builder.load(slot) for slot in slots]]
