"""Moves of the float32 2:4 family that transpose: rows of x into lanes, and lanes into rows of the output.

Each is a Numba intrinsic on addresses (intp). They return an intp, because Numba may drop a call that returns nothing.
The IR is plain ``<16 x float>``: LLVM splits it for CPUs with narrower registers.
"""

from typing import Any

from sparse_rt_kernels.jit.compiler import cgutils, types
from sparse_rt_kernels.jit.llvm import F32, I64
from sparse_rt_kernels.n2m4_f32.tile.lanes import returns_intp
from sparse_rt_kernels.product.f32.ending import Ending, clipped
from sparse_rt_kernels.product.f32.finite import not_finite
from sparse_rt_kernels.vectors import simd
from sparse_rt_kernels.vectors.records import fields_of
from sparse_rt_kernels.vectors.registers import FLOATS, LANES, REGISTER

__all__ = ["HALF", "transpose_half_out", "transpose_in", "transpose_out"]

#: Rows of a block that :func:`transpose_half_out` writes.
HALF = LANES // 2

_HALF_VECTOR = simd.vector(F32, HALF)
# The even quarters of two registers; the odd ones.
_QUARTERS = [[4 * quarter + lane for quarter in range(odd, 8, 2) for lane in range(4)] for odd in range(2)]


def _transpose_quarters(builder: Any, rows: list[Any]) -> list[Any]:
    """Transpose 4 rows within each quarter of 4 lanes: lane j of row i becomes lane i of row j.

    Unpack instructions, which take no lane number from memory or a register as a permutation across quarters does.
    """
    starts = range(0, LANES, 4)
    for _ in range(2):
        lanes = [[lane for q in starts for x in (q + h, q + h + 1) for lane in (x, LANES + x)] for h in (0, 2)]
        rows = [simd.shuffle(builder, rows[i], rows[i + 2], half) for i in range(2) for half in lanes]
    return rows


def _transpose(builder: Any, rows: list[Any]) -> list[Any]:
    """Transpose 16 rows: within quarters of lanes, then whole quarters."""
    rows = [row for first in range(0, LANES, 4) for row in _transpose_quarters(builder, rows[first : first + 4])]
    # Register 4 g + j holds, in quarter q, column 4 q + j of the rows 4 g .. 4 g + 3.
    out = [None] * LANES
    for j in range(4):
        pairs = []
        for a, b in ((rows[j], rows[4 + j]), (rows[8 + j], rows[12 + j])):
            pairs.append([simd.shuffle(builder, a, b, _QUARTERS[odd]) for odd in range(2)])
        for odd in range(2):
            for high in range(2):
                out[4 * (2 * high + odd) + j] = simd.shuffle(builder, pairs[0][odd], pairs[1][odd], _QUARTERS[high])
    return out


@simd.emitter
def transpose_in(
    context: Any, source: Any, stride: Any, rows: Any, columns: Any, ahead: Any, out: Any, out_stride: Any
) -> Any:
    """Write a 16 x 16 block of a row-major float32 matrix transposed: ``out[j, i] = source[i, j]``.

    Only the first `rows` rows and `columns` columns (each at least 1) of the source are read; the others are zero.
    Strides are in bytes; `out` is 64-byte aligned. What lies `ahead` bytes further, if that
    is not 0, is called into L2. Returns 0 if all that was read is finite.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        source, stride, rows, columns, ahead, out, out_stride = given
        places = [simd.pointer(builder, builder.add(source, builder.mul(stride, I64(row)))) for row in range(LANES)]
        held = [cgutils.alloca_once(builder, FLOATS) for _ in places]
        with builder.if_then(builder.icmp_signed("!=", ahead, I64(0))):
            for place in places:
                simd.prefetch(builder, simd.element(builder, place, ahead))
        full = builder.and_(builder.icmp_signed(">=", rows, I64(LANES)), builder.icmp_signed(">=", columns, I64(LANES)))
        with builder.if_else(full) as (whole, ragged):
            with whole:
                for place, slot in zip(places, held, strict=True):
                    builder.store(simd.load(builder, place, FLOATS, 4), slot)
            with ragged:
                for row, (place, slot) in enumerate(zip(places, held, strict=True)):
                    present = builder.select(builder.icmp_signed("<", I64(row), rows), columns, I64(0))
                    builder.store(simd.load_first(builder, place, FLOATS, present), slot)
        block = [builder.load(slot) for slot in held]
        for row, value in enumerate(_transpose(builder, block)):
            place = simd.pointer(builder, builder.add(out, builder.mul(out_stride, I64(row))))
            simd.store(builder, place, value, REGISTER)
        return not_finite(builder, block)

    return returns_intp(7), generate


def _store_rows(builder: Any, rows: list[Any], ending: Any) -> None:
    """Store the first columns of the first of `rows`; where there is a residual, it is added and the sum clipped."""
    end = fields_of(builder, Ending, ending)
    low, high = simd.broadcast(builder, end.low, LANES), simd.broadcast(builder, end.high, LANES)

    def store(*, adds: bool, whole: bool) -> None:
        for number, value in enumerate(rows):
            offset = builder.mul(end.stride, I64(number))
            place, other = (simd.pointer(builder, builder.add(first, offset)) for first in (end.out, end.residual))
            if whole:
                total = simd.fadd(builder, value, simd.load(builder, other, FLOATS, 4)) if adds else value
                simd.store(builder, place, clipped(builder, total, low, high) if adds else total, 4)
                continue
            with builder.if_then(builder.icmp_signed("<", I64(number), end.rows)):
                read = simd.load_first(builder, other, FLOATS, end.columns) if adds else None
                total = simd.fadd(builder, value, read) if adds else value
                simd.store_first(builder, place, clipped(builder, total, low, high) if adds else total, end.columns)

    is_whole = builder.icmp_signed("==", builder.add(end.rows, end.columns), I64(len(rows) + LANES))
    with builder.if_else(builder.icmp_signed("!=", end.residual, I64(0))) as (added_to, bare):
        for branch, adds in ((added_to, True), (bare, False)):
            with branch, builder.if_else(is_whole) as (full, ragged):
                with full:
                    store(adds=adds, whole=True)
                with ragged:
                    store(adds=adds, whole=False)


def _rows_at(builder: Any, source: Any, stride: Any, kind: Any, alignment: int) -> list[Any]:
    """Load 16 vectors of type `kind`, `stride` bytes apart."""
    places = [simd.pointer(builder, builder.add(source, builder.mul(stride, I64(row)))) for row in range(LANES)]
    return [simd.load(builder, place, kind, alignment) for place in places]


@simd.emitter
def transpose_half_out(context: Any, source: Any, stride: Any, ending: Any) -> Any:
    """Write 8 rows of 16 columns, transposed, into a row-major float32 matrix: ``out[i, j] = source[j, i]``.

    All 16 rows of `source` are read, at addresses that are multiples of 32. Of the :class:`.ending.Ending` no bias is
    added, and without a residual nothing is clipped.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        source, stride, ending = given
        halves = _rows_at(builder, source, stride, _HALF_VECTOR, 32)
        # Columns j and 8 + j share a register.
        pairs = [simd.shuffle(builder, a, b, range(LANES)) for a, b in zip(halves[:HALF], halves[HALF:], strict=True)]
        quarters = [row for first in (0, 4) for row in _transpose_quarters(builder, pairs[first : first + 4])]
        # Quarters 0 and 2 of registers j and 4 + j are row j, quarters 1 and 3 row 4 + j.
        order = [[4 * x + lane for x in (q, 4 + q, 2 + q, 6 + q) for lane in range(4)] for q in range(2)]
        rows = [simd.shuffle(builder, quarters[j], quarters[4 + j], order[q]) for q in range(2) for j in range(4)]
        _store_rows(builder, rows, ending)
        return I64(0)

    return types.intp(types.intp, types.intp, ending), generate


@simd.emitter
def transpose_out(context: Any, source: Any, stride: Any, ending: Any) -> Any:
    """Write a 16 x 16 block transposed into a row-major float32 matrix, as :func:`transpose_half_out` does half of one.

    `source` is 64-byte aligned.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        source, stride, ending = given
        block = _rows_at(builder, source, stride, FLOATS, REGISTER)
        _store_rows(builder, simd.transpose(builder, block), ending)
        return I64(0)

    return types.intp(types.intp, types.intp, ending), generate
