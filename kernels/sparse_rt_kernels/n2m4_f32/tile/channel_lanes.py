"""The register tile with lanes of channels, for small m: weights are decoded once.

A register holds the 16 values of one step of a packed tile as they lie in memory: 4 slots of 4 channels. Each lane
picks the element of x that it meets by a permutation, so that no product is wasted and the weight is read as one
stream. The sums over the 4 slots are added when the tile ends.
"""

import itertools
from typing import Any, NamedTuple

from llvmlite import ir

from sparse_rt_kernels.jit.compiler import cgutils, types
from sparse_rt_kernels.jit.llvm import F32, I32, I64
from sparse_rt_kernels.n2m4_f32.blocking.panels import CHANNELS, OCTET_BYTES, REDUCTION
from sparse_rt_kernels.product.f32.ending import Ending, clipped
from sparse_rt_kernels.vectors import simd
from sparse_rt_kernels.vectors.records import fields_of
from sparse_rt_kernels.vectors.registers import FLOATS, LANES, REGISTER

__all__ = ["Operands", "add_rows", "finish_rows", "rows_tile", "slots_summed"]

_HALF = simd.vector(F32, REDUCTION)
_SLOTS = LANES // CHANNELS
# Lane 4 s + c is slot s of channel c: where its two bits lie in the four index bytes, and the element that 0 names.
_SHIFTS = [8 * channel + 2 * slot for slot in range(_SLOTS) for channel in range(CHANNELS)]
_FIRST = [4 * (slot // 2) + slot % 2 for slot in range(_SLOTS) for _ in range(CHANNELS)]


def _widened(builder: Any, half: Any) -> Any:
    """Return 8 floats followed by zeros: what a load of half a register leaves in a whole one, for nothing."""
    return simd.shuffle(builder, half, ir.Constant(_HALF, None), range(LANES))


def _quarters(builder: Any, a: Any, b: Any, chosen: tuple[int, int]) -> Any:
    """Return two quarters of a, then the same two of b: one shuffle."""
    lanes = [CHANNELS * quarter + lane for quarter in chosen for lane in range(CHANNELS)]
    return simd.shuffle(builder, a, b, [*lanes, *(LANES + lane for lane in lanes)])


def slots_summed(builder: Any, rows: list[Any]) -> Any:
    """Return the sums of up to 4 rows of a tile over its slots: lane (r, c) is the sum over s of lane (s, c) of row r.

    Rows that do not exist give 0.
    """
    rows = rows + [ir.Constant(FLOATS, None)] * (_SLOTS - len(rows))

    def halved(a: Any, b: Any, first: tuple[int, int], second: tuple[int, int]) -> Any:
        return simd.fadd(builder, _quarters(builder, a, b, first), _quarters(builder, a, b, second))

    upper, lower = (halved(rows[first], rows[first + 1], (0, 1), (2, 3)) for first in (0, 2))
    return halved(upper, lower, (0, 2), (1, 3))


def _control(builder: Any, index: Any) -> Any:
    """Return for each lane the element of 8 that it meets, from 4 index bytes at address `index`."""
    named = simd.load(builder, simd.pointer(builder, index), I32, CHANNELS)
    named = simd.shift_right(builder, simd.broadcast(builder, named, LANES), simd.constant(I32, _SHIFTS))
    named = simd.bitwise_and(builder, named, simd.constant(I32, [3] * LANES))
    return simd.add(builder, named, simd.constant(I32, _FIRST))


def _add_octet(builder: Any, accumulators: list[list[Any]], x: Any, tiles: list[tuple[Any, Any]]) -> None:
    """Add the products of 8 reduction elements: `tiles` are addresses of values and index, a column of slots each."""
    decoded = [
        (simd.load(builder, simd.pointer(builder, values), FLOATS, REGISTER), _control(builder, index))
        for values, index in tiles
    ]
    for row, slots in enumerate(accumulators):
        # Half a register: a load of a whole one would cross a cache line every second time.
        eight = simd.load(builder, simd.pointer(builder, x, I64(row * OCTET_BYTES)), _HALF, OCTET_BYTES)
        held = _widened(builder, eight)
        for slot, (weights, control) in zip(slots, decoded, strict=True):
            met = simd.permute(builder, held, control)
            builder.store(simd.fma(builder, met, weights, builder.load(slot)), slot)


def add_rows(builder: Any, accumulators: list[Any], x: Any, weights: Any, index: Any) -> None:
    """Add the products of 8 reduction elements of one tile, whose values are in the register `weights`."""
    control = _control(builder, index)
    for row, slot in enumerate(accumulators):
        eight = simd.load(builder, simd.pointer(builder, x, I64(row * OCTET_BYTES)), _HALF, OCTET_BYTES)
        met = simd.permute(builder, _widened(builder, eight), control)
        builder.store(simd.fma(builder, met, weights, builder.load(slot)), slot)


class Operands(NamedTuple):
    """What a tile of rows multiplies, and where its sums go.

    Attributes
    ----------
    x
        (octets, rows, 8) float32, 32-byte aligned.
    values, indexes
        Of the first tile, from the first of `octets` on; see :mod:`.weight`.
    tile_octets
        Octets from tile to tile.
    octets
        Reduction elements / 8.
    sums, stride
        (tiles, rows rounded up to 4, 4) float32, 64-byte aligned, and the bytes from tile to tile.
    tiles_read
        How many of the tiles exist; the sums of the others are worthless.
    resumed
        Whether the sums are added to what `sums` holds.
    """

    x: int
    values: int
    indexes: int
    tile_octets: int
    octets: int
    sums: int
    stride: int
    tiles_read: int
    resumed: int


class _Weights:
    """Where each tile's values and indexes lie.

    The hardware's own prefetchers stop at the end of a 4 KiB page: a tile calls what comes `ahead` octets later.
    """

    def __init__(self, builder: Any, given: Any, ahead: Any, tiles: int) -> None:
        self._values, self._index = given.values, given.indexes
        # A tile that does not exist reads the first one instead.
        self._skipped = [
            builder.select(
                builder.icmp_signed("<", I64(tile), given.tiles_read),
                builder.mul(given.tile_octets, I64(tile)),
                I64(0),
            )
            for tile in range(tiles)
        ]
        self._values_ahead, self._index_ahead = (builder.mul(ahead, I64(size)) for size in (REGISTER, CHANNELS))

    def at(self, builder: Any, octet: Any) -> list[tuple[Any, Any]]:
        """Return the addresses of values and index of `octet` of each tile."""
        here = [builder.add(first, octet) for first in self._skipped]
        return [
            (
                builder.add(self._values, builder.mul(place, I64(REGISTER))),
                builder.add(self._index, builder.mul(place, I64(CHANNELS))),
            )
            for place in here
        ]

    def call_ahead(self, builder: Any, octets: list[list[tuple[Any, Any]]]) -> None:
        """Prefetch for each of `octets`, neighbours, a line of values, and for all of them a line of indexes."""
        for values, _ in itertools.chain(*octets):
            simd.prefetch(builder, simd.pointer(builder, values, self._values_ahead), 1)
        for _, index in octets[0]:
            simd.prefetch(builder, simd.pointer(builder, index, self._index_ahead), 1)


def _store_sums(builder: Any, accumulators: list[list[Any]], given: Any) -> None:
    """Add the slots of each accumulator up and store them, after what the sums hold if they are resumed."""
    again, zero = builder.icmp_signed("!=", given.resumed, I64(0)), ir.Constant(FLOATS, None)
    for row, tile in itertools.product(range(0, len(accumulators), _SLOTS), range(len(accumulators[0]))):
        held = [builder.load(slots[tile]) for slots in accumulators[row : row + _SLOTS]]
        total = slots_summed(builder, held)
        offset = builder.add(builder.mul(given.stride, I64(tile)), I64(row * CHANNELS * 4))
        place = simd.pointer(builder, given.sums, offset)
        before = builder.select(again, simd.load(builder, place, FLOATS, REGISTER), zero)
        simd.store(builder, place, simd.fadd(builder, before, total), REGISTER)


@simd.emitter
def rows_tile(context: Any, rows: Any, tiles: Any, unrolled: Any, ahead: Any, operands: Any) -> Any:
    """``sums[t, r, c] (+)= sum_o sum_s x[o, r, element(o, s, t, c)] * values[t, o, s, c]``.

    Parameters
    ----------
    rows, tiles
        Literal ints: activation rows by packed tiles of 4 channels, each pair one accumulator. An FMA waits for the
        one before it in the same accumulator, so there must be a few.
    unrolled
        Literal int: octets a turn of the loop.
    ahead
        How many octets after its use of one the tile calls another into L1. A tile of one row does not: loads are all
        there is to do for it, and a prefetch a load is one too many.
    operands
        An :class:`Operands`.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        operands = fields_of(builder, Operands, given[-1])
        height, width = rows.literal_value, tiles.literal_value
        accumulators = [[cgutils.alloca_once(builder, FLOATS) for _ in range(width)] for _ in range(height)]
        for slot in itertools.chain(*accumulators):
            builder.store(ir.Constant(FLOATS, None), slot)
        weights = _Weights(builder, operands, given[-2], width)

        def add(first: Any, count: int) -> None:
            octets = [builder.add(first, I64(octet)) for octet in range(count)]
            met = [weights.at(builder, octet) for octet in octets]
            if height > 1:
                weights.call_ahead(builder, met)
            for octet, here in zip(octets, met, strict=True):
                at = builder.add(operands.x, builder.mul(octet, I64(height * OCTET_BYTES)))
                _add_octet(builder, accumulators, at, here)

        step, octets = unrolled.literal_value, operands.octets
        whole = builder.sub(octets, builder.urem(octets, I64(step)))
        with cgutils.for_range_slice(builder, I64(0), whole, I64(step), I64, inc=True) as (octet, _):
            add(octet, step)
        if step > 1:
            with cgutils.for_range_slice(builder, whole, octets, I64(1), I64, inc=True) as (octet, _):
                add(octet, 1)
        _store_sums(builder, accumulators, operands)
        return I64(0)

    return types.intp(rows, tiles, unrolled, types.intp, operands), generate


@simd.emitter
def finish_rows(context: Any, sums: Any, stride: Any, ending: Any) -> Any:
    """``out[r, c] = clip(sums[c // 4, r, c % 4] + bias[c] + residual[r, c])`` for at most 4 rows and 16 channels.

    Parameters
    ----------
    sums, stride
        (4, 4, 4) float32 of 4 tiles, 64-byte aligned, and the bytes from tile to tile.
    ending
        An :class:`.ending.Ending`.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        sums, stride, ending = given
        end = fields_of(builder, Ending, ending)
        tiles = [
            simd.load(builder, simd.pointer(builder, sums, builder.mul(stride, I64(tile))), FLOATS, REGISTER)
            for tile in range(_SLOTS)
        ]
        shift = simd.load_first(builder, simd.pointer(builder, end.bias), FLOATS, end.columns)
        low, high = simd.broadcast(builder, end.low, LANES), simd.broadcast(builder, end.high, LANES)
        # Without a residual none of its channels are read, and that from memory that is there: a load with all lanes
        # masked off takes hundreds of cycles where there is no page.
        is_absent = builder.icmp_signed("==", end.residual, I64(0))
        added = builder.select(is_absent, I64(0), end.columns)
        residual = builder.select(is_absent, end.out, end.residual)
        for row in range(_SLOTS):
            half = (0, 1) if row < 2 else (2, 3)
            left, right = (_quarters(builder, tiles[first], tiles[first + 1], half) for first in (0, 2))
            result = simd.fadd(builder, _quarters(builder, left, right, (row % 2, row % 2 + 2)), shift)
            with builder.if_then(builder.icmp_signed("<", I64(row), end.rows)):
                offset = builder.mul(end.stride, I64(row))
                other = simd.load_first(builder, simd.pointer(builder, residual, offset), FLOATS, added)
                total = clipped(builder, simd.fadd(builder, result, other), low, high)
                simd.store_first(builder, simd.pointer(builder, end.out, offset), total, end.columns)
        return I64(0)

    return types.intp(types.intp, types.intp, ending), generate
