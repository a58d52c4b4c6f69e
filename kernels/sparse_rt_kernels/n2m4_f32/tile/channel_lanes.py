"""SIMD micro-kernels of the channel-lane shape of the float32 2:4 family: few activation rows, weights decoded once.

A register holds the 16 values of one step of a packed tile as they lie in memory: 4 slots of 4 channels. Each lane
picks the element of x that it meets by a permutation, so that no product is wasted and the weight is read as one
stream. The sums over the 4 slots are added when the tile ends.
"""

import itertools
from typing import Any

from llvmlite import ir

from sparse_rt_kernels.jit.compiler import cgutils, types
from sparse_rt_kernels.jit.llvm import F32, I32, I64
from sparse_rt_kernels.n2m4_f32.blocking import CHANNELS, REDUCTION
from sparse_rt_kernels.vectors import simd
from sparse_rt_kernels.vectors.registers import FLOATS, LANES, REGISTER

__all__ = ["add_rows", "finish_rows", "rows_tile", "slots_summed", "spread_block", "spread_row", "store_octets"]

_HALF = simd.vector(F32, REDUCTION)
_OCTET_BYTES = REDUCTION * 4
_SLOTS = LANES // CHANNELS
# Lane 4 s + c is slot s of channel c: where its two bits lie in the four index bytes, and the element that 0 names.
_SHIFTS = [8 * channel + 2 * slot for slot in range(_SLOTS) for channel in range(CHANNELS)]
_FIRST = [4 * (slot // 2) + slot % 2 for slot in range(_SLOTS) for _ in range(CHANNELS)]


def _at(builder: Any, address: Any, offset: Any) -> Any:
    return simd.pointer(builder, builder.add(address, offset))


def _not_finite(builder: Any, total: Any) -> Any:
    """Return nonzero if a lane of `total`, a sum of 0 * x, is NaN."""
    mask = builder.fcmp_unordered("uno", total, total)
    return builder.zext(builder.bitcast(mask, ir.IntType(LANES)), I64)


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
        eight = simd.load(builder, _at(builder, x, I64(row * _OCTET_BYTES)), _HALF, _OCTET_BYTES)
        held = _widened(builder, eight)
        for slot, (weights, control) in zip(slots, decoded, strict=True):
            met = simd.permute(builder, held, control)
            builder.store(simd.fma(builder, met, weights, builder.load(slot)), slot)


def add_rows(builder: Any, accumulators: list[Any], x: Any, weights: Any, index: Any) -> None:
    """Add the products of 8 reduction elements of one tile, whose values are in the register `weights`."""
    control = _control(builder, index)
    for row, slot in enumerate(accumulators):
        eight = simd.load(builder, _at(builder, x, I64(row * _OCTET_BYTES)), _HALF, _OCTET_BYTES)
        met = simd.permute(builder, _widened(builder, eight), control)
        builder.store(simd.fma(builder, met, weights, builder.load(slot)), slot)


class _Weights:
    """Where each tile's values and indexes lie.

    The hardware's own prefetchers stop at the end of a 4 KiB page: a tile calls what comes `ahead` octets later.
    """

    def __init__(self, builder: Any, values: Any, index: Any, skipped: list[Any], ahead: Any) -> None:
        self._values, self._index, self._skipped = values, index, skipped
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
            simd.prefetch(builder, _at(builder, values, self._values_ahead), 1)
        for _, index in octets[0]:
            simd.prefetch(builder, _at(builder, index, self._index_ahead), 1)


@simd.emitter
def rows_tile(
    context: Any,
    rows: Any,
    tiles: Any,
    unrolled: Any,
    x: Any,
    values: Any,
    index: Any,
    tile_octets: Any,
    octets: Any,
    ahead: Any,
    sums: Any,
    stride: Any,
    tiles_read: Any,
    resumed: Any,
) -> Any:
    """``sums[t, r, c] (+)= sum_o sum_s x[o, r, element(o, s, t, c)] * values[t, o, s, c]``.

    Parameters
    ----------
    rows, tiles
        Literal ints: activation rows by packed tiles of 4 channels, each pair one accumulator. An FMA waits for the
        one before it in the same accumulator, so there must be a few.
    unrolled
        Literal int: octets a turn of the loop.
    x
        (octets, rows, 8) float32, 32-byte aligned.
    values, index
        Of the first tile, from the first of `octets` on; see :mod:`.weight`.
    tile_octets
        Octets from tile to tile.
    octets
        Reduction elements / 8.
    ahead
        How many octets after its use of one the tile calls another into L1. A tile of one row does not: loads are all
        there is to do for it, and a prefetch a load is one too many.
    sums, stride
        (tiles, rows rounded up to 4, 4) float32, 64-byte aligned, and the bytes from tile to tile.
    tiles_read
        How many of the tiles exist; the sums of the others are worthless.
    resumed
        Whether the sums are added to what `sums` holds.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        *_, x, values, index, tile_octets, octets, ahead, sums, stride, tiles_read, resumed = given
        height, width = rows.literal_value, tiles.literal_value
        accumulators = [[cgutils.alloca_once(builder, FLOATS) for _ in range(width)] for _ in range(height)]
        for slot in itertools.chain(*accumulators):
            builder.store(ir.Constant(FLOATS, None), slot)
        # A tile that does not exist reads the first one instead.
        skipped = [
            builder.select(builder.icmp_signed("<", I64(tile), tiles_read), builder.mul(tile_octets, I64(tile)), I64(0))
            for tile in range(width)
        ]
        weights = _Weights(builder, values, index, skipped, ahead)

        def add(first: Any, count: int) -> None:
            octets = [builder.add(first, I64(octet)) for octet in range(count)]
            met = [weights.at(builder, octet) for octet in octets]
            if height > 1:
                weights.call_ahead(builder, met)
            for octet, here in zip(octets, met, strict=True):
                at = builder.add(x, builder.mul(octet, I64(height * _OCTET_BYTES)))
                _add_octet(builder, accumulators, at, here)

        turn = unrolled.literal_value
        whole = builder.sub(octets, builder.urem(octets, I64(turn)))
        with cgutils.for_range_slice(builder, I64(0), whole, I64(turn), I64, inc=True) as (octet, _):
            add(octet, turn)
        if turn > 1:
            with cgutils.for_range_slice(builder, whole, octets, I64(1), I64, inc=True) as (octet, _):
                add(octet, 1)
        again = builder.icmp_signed("!=", resumed, I64(0))
        zero = ir.Constant(FLOATS, None)
        for row, tile in itertools.product(range(0, height, _SLOTS), range(width)):
            held = [builder.load(slots[tile]) for slots in accumulators[row : row + _SLOTS]]
            total = slots_summed(builder, held)
            offset = builder.add(builder.mul(stride, I64(tile)), I64(row * CHANNELS * 4))
            place = _at(builder, sums, offset)
            before = builder.select(again, simd.load(builder, place, FLOATS, REGISTER), zero)
            simd.store(builder, place, simd.fadd(builder, before, total), REGISTER)
        return I64(0)

    return types.intp(rows, tiles, unrolled, *[types.intp] * 10), generate


def store_octets(builder: Any, value: Any, place: Any, pitch: Any) -> None:
    """Store the halves of `value` at address `place` and `pitch` bytes behind it."""
    for half, to in enumerate((place, builder.add(place, pitch))):
        lanes = range(half * REDUCTION, (half + 1) * REDUCTION)
        simd.store(builder, simd.pointer(builder, to), simd.shuffle(builder, value, value, lanes), _OCTET_BYTES)


@simd.emitter
def spread_row(context: Any, source: Any, columns: Any, octets: Any, out: Any, pitch: Any) -> Any:
    """``out[o, j] = source[8 o + j]`` for `octets` groups of 8, `pitch` bytes apart; zero from `columns` on.

    `out` is 32-byte aligned; if `octets` is odd, one group more is written. Returns 0 if all columns are finite.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        source, columns, octets, out, pitch = given
        zero = ir.Constant(FLOATS, None)
        total = cgutils.alloca_once(builder, FLOATS)
        builder.store(zero, total)
        with cgutils.for_range(builder, builder.sdiv(builder.add(octets, I64(1)), I64(2))) as loop:
            done = builder.mul(loop.index, I64(LANES))
            place = _at(builder, source, builder.mul(done, I64(4)))
            value = simd.load_first(builder, place, FLOATS, builder.sub(columns, done))
            builder.store(simd.fma(builder, zero, value, builder.load(total)), total)
            store_octets(builder, value, builder.add(out, builder.mul(builder.mul(loop.index, I64(2)), pitch)), pitch)
        return _not_finite(builder, builder.load(total))

    return types.intp(*[types.intp] * 5), generate


@simd.emitter
def spread_block(context: Any, source: Any, stride: Any, offsets: Any, out: Any, pitch: Any) -> Any:
    """Write 16 reduction elements of 16 lanes transposed: ``(out + offsets[p])[o, j] = source[8 o + j, p]``.

    Strides and offsets (int64) are in bytes, `pitch` those from o = 0 to 1; `source` is 64-byte aligned.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        source, stride, offsets, out, pitch = given
        block = [
            simd.load(builder, _at(builder, source, builder.mul(stride, I64(row))), FLOATS, REGISTER)
            for row in range(LANES)
        ]
        for lane, value in enumerate(simd.transpose(builder, block)):
            offset = simd.load(builder, _at(builder, offsets, I64(8 * lane)), I64, 8)
            store_octets(builder, value, builder.add(out, offset), pitch)
        return I64(0)

    return types.intp(*[types.intp] * 5), generate


@simd.emitter
def finish_rows(
    context: Any,
    sums: Any,
    stride: Any,
    bias: Any,
    residual: Any,
    low: Any,
    high: Any,
    out: Any,
    out_stride: Any,
    rows: Any,
    channels: Any,
) -> Any:
    """``out[r, c] = clip(sums[c // 4, r, c % 4] + bias[c] + residual[r, c])`` for at most 4 rows and 16 channels.

    A NaN stays NaN.

    Parameters
    ----------
    sums, stride
        (4, 4, 4) float32 of 4 tiles, 64-byte aligned, and the bytes from tile to tile.
    residual
        As out, perhaps out itself; 0 for none.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        sums, stride, bias, residual, low, high, out, out_stride, rows, channels = given
        tiles = [
            simd.load(builder, _at(builder, sums, builder.mul(stride, I64(tile))), FLOATS, REGISTER)
            for tile in range(_SLOTS)
        ]
        shift = simd.load_first(builder, simd.pointer(builder, bias), FLOATS, channels)
        least, most = simd.broadcast(builder, low, LANES), simd.broadcast(builder, high, LANES)
        # Without a residual none of its channels are read, and that from memory that is there: a load with all lanes
        # masked off takes hundreds of cycles where there is no page.
        is_absent = builder.icmp_signed("==", residual, I64(0))
        added = builder.select(is_absent, I64(0), channels)
        residual = builder.select(is_absent, out, residual)
        for row in range(_SLOTS):
            half = (0, 1) if row < 2 else (2, 3)
            left, right = (_quarters(builder, tiles[first], tiles[first + 1], half) for first in (0, 2))
            result = simd.fadd(builder, _quarters(builder, left, right, (row % 2, row % 2 + 2)), shift)
            with builder.if_then(builder.icmp_signed("<", I64(row), rows)):
                offset = builder.mul(out_stride, I64(row))
                other = simd.load_first(builder, _at(builder, residual, offset), FLOATS, added)
                # larger and smaller return their second operand if it is NaN.
                clipped = simd.larger(builder, least, simd.fadd(builder, result, other))
                simd.store_first(builder, _at(builder, out, offset), simd.smaller(builder, most, clipped), channels)
        return I64(0)

    signature = types.intp(*[types.intp] * 4, types.float32, types.float32, *[types.intp] * 4)
    return signature, generate
