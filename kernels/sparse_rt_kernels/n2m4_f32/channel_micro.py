"""SIMD micro-kernels of the channel-lane shape of the float32 2:4 family: few activation rows, weights decoded once.

A register holds the 16 values of one step of a packed tile as they lie in memory: 4 slots of 4 channels. Each lane
picks the element of x that it meets by a permutation, so that no product is wasted and the weight is read as one
stream. The sums over the 4 slots are added when the tile ends.
"""

import itertools
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types

from sparse_rt_kernels import simd
from sparse_rt_kernels.n2m4_f32.tiling import CHANNELS, LANES, REDUCTION

__all__ = ["finish_row", "rows_tile", "spread_block", "spread_row"]

# How far ahead of its use a weight is called into L2, in bytes. The hardware's own prefetcher stops at the end of a
# 4 KiB page and leaves a third of the memory's speed unused (measured on Zen 4: 8 and 16 KiB ahead alike, 4 worse).
_AHEAD = 8192

_VECTOR = simd.vector(simd.F32, LANES)
_HALF = simd.vector(simd.F32, REDUCTION)
_CONTROL = simd.vector(simd.I32, LANES)
_BYTES = LANES * 4
_OCTET_BYTES = REDUCTION * 4
_SLOTS = LANES // CHANNELS
# Lane 4 s + c is slot s of channel c: where its two bits lie in the four index bytes, and the element that 0 names.
_SHIFTS = [8 * channel + 2 * slot for slot in range(_SLOTS) for channel in range(CHANNELS)]
_FIRST = [4 * (slot // 2) + slot % 2 for slot in range(_SLOTS) for _ in range(CHANNELS)]


def _int(value: int) -> Any:
    return ir.Constant(simd.I64, value)


def _at(builder: Any, address: Any, offset: Any) -> Any:
    return simd.pointer(builder, builder.add(address, offset))


def _not_finite(builder: Any, total: Any) -> Any:
    """Return nonzero if a lane of `total`, a sum of 0 * x, is NaN."""
    mask = builder.fcmp_unordered("uno", total, total)
    return builder.zext(builder.bitcast(mask, ir.IntType(LANES)), simd.I64)


def _widened(builder: Any, half: Any) -> Any:
    """Return 8 floats followed by zeros: what a load of half a register leaves in a whole one, for nothing."""
    return simd.shuffle(builder, half, ir.Constant(_HALF, None), range(LANES))


def _slots_summed(builder: Any, total: Any) -> Any:
    """Add the 4 lanes of each channel, those of its 4 slots: 16 lanes become 4."""
    while total.type.count > CHANNELS:
        half = total.type.count // 2
        low = simd.shuffle(builder, total, total, range(half))
        total = simd.fadd(builder, low, simd.shuffle(builder, total, total, range(half, 2 * half)))
    return total


def _control(builder: Any, index: Any) -> Any:
    """Return for each lane the element of 8 that it meets, from 4 index bytes at address `index`."""
    named = simd.load(builder, simd.pointer(builder, index), simd.I32, CHANNELS)
    named = simd.shift_right(builder, simd.broadcast(builder, named, LANES), simd.constant(simd.I32, _SHIFTS))
    named = simd.bitwise_and(builder, named, simd.constant(simd.I32, [3] * LANES))
    return simd.add(builder, named, simd.constant(simd.I32, _FIRST))


def _add_octet(builder: Any, accumulators: list[list[Any]], x: Any, tiles: list[tuple[Any, Any]]) -> None:
    """Add the products of 8 reduction elements: `tiles` are addresses of values and index, a column of slots each."""
    decoded = []
    for values, index in tiles:
        # For one row, loads are all there is to do, and a prefetch a load is one too many.
        if len(accumulators) > 1:
            simd.prefetch(builder, _at(builder, values, _int(_AHEAD)))
        decoded.append(
            (
                simd.load(builder, simd.pointer(builder, values), _VECTOR, _BYTES),
                _control(builder, index),
            )
        )
    for row, slots in enumerate(accumulators):
        # Half a register: a load of a whole one would cross a cache line every second time.
        eight = simd.load(builder, _at(builder, x, _int(row * _OCTET_BYTES)), _HALF, _OCTET_BYTES)
        held = _widened(builder, eight)
        for slot, (weights, control) in zip(slots, decoded, strict=True):
            met = simd.permute(builder, held, control)
            builder.store(simd.fma(builder, met, weights, builder.load(slot)), slot)


@simd.emitter
def rows_tile(
    context: Any,
    rows: Any,
    tiles: Any,
    x: Any,
    values: Any,
    index: Any,
    tile_octets: Any,
    octets: Any,
    sums: Any,
    stride: Any,
    rows_stored: Any,
    tiles_stored: Any,
    resumed: Any,
) -> Any:
    """``sums[r, 4 t + c] (+)= sum_o sum_s x[o, r, element(o, s, t, c)] * values[t, o, s, c]``.

    Parameters
    ----------
    rows, tiles
        Literal ints: activation rows by packed tiles of 4 channels, each pair one accumulator. An FMA waits for the
        one before it in the same accumulator, so there must be a few.
    x
        (octets, rows, 8) float32, 32-byte aligned.
    values, index
        Of the first tile, from the first of `octets` on; see :mod:`.weight`.
    tile_octets
        Octets from tile to tile.
    octets
        Reduction elements / 8.
    sums, stride
        (rows, 4 * tiles) float32, 16-byte aligned, and the bytes from row to row.
    rows_stored, tiles_stored
        How many of the rows are stored, and how many of the tiles exist; at least 1.
    resumed
        Whether the sums are added to what `sums` holds.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        _, _, x, values, index, tile_octets, octets, sums, stride, rows_stored, tiles_stored, resumed = given
        height, width = rows.literal_value, tiles.literal_value
        accumulators = [[cgutils.alloca_once(builder, _VECTOR) for _ in range(width)] for _ in range(height)]
        for slot in itertools.chain(*accumulators):
            builder.store(ir.Constant(_VECTOR, None), slot)
        exists = [builder.icmp_signed("<", _int(tile), tiles_stored) for tile in range(width)]
        # A tile that does not exist reads the first one instead.
        skipped = [
            builder.select(there, builder.mul(tile_octets, _int(tile)), _int(0)) for tile, there in enumerate(exists)
        ]
        with cgutils.for_range(builder, octets) as loop:
            here = [builder.add(first, loop.index) for first in skipped]
            weights = [
                (
                    builder.add(values, builder.mul(octet, _int(_BYTES))),
                    builder.add(index, builder.mul(octet, _int(CHANNELS))),
                )
                for octet in here
            ]
            _add_octet(
                builder, accumulators, builder.add(x, builder.mul(loop.index, _int(height * _OCTET_BYTES))), weights
            )
        again = builder.icmp_signed("!=", resumed, _int(0))
        for row, tile in itertools.product(range(height), range(width)):
            stored = builder.and_(builder.icmp_signed("<", _int(row), rows_stored), exists[tile])
            with builder.if_then(stored):
                total = _slots_summed(builder, builder.load(accumulators[row][tile]))
                offset = builder.add(builder.mul(stride, _int(row)), _int(tile * CHANNELS * 4))
                place = _at(builder, sums, offset)
                before = simd.load(builder, place, total.type, 16)
                before = builder.select(again, before, ir.Constant(total.type, None))
                simd.store(builder, place, simd.fadd(builder, before, total), 16)
        return _int(0)

    return types.intp(rows, tiles, *[types.intp] * 10), generate


def _store_octets(builder: Any, value: Any, place: Any, pitch: Any) -> None:
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
        zero = ir.Constant(_VECTOR, None)
        total = cgutils.alloca_once(builder, _VECTOR)
        builder.store(zero, total)
        with cgutils.for_range(builder, builder.sdiv(builder.add(octets, _int(1)), _int(2))) as loop:
            done = builder.mul(loop.index, _int(LANES))
            place = _at(builder, source, builder.mul(done, _int(4)))
            value = simd.load_first(builder, place, _VECTOR, builder.sub(columns, done))
            builder.store(simd.fma(builder, zero, value, builder.load(total)), total)
            _store_octets(builder, value, builder.add(out, builder.mul(builder.mul(loop.index, _int(2)), pitch)), pitch)
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
            simd.load(builder, _at(builder, source, builder.mul(stride, _int(row))), _VECTOR, _BYTES)
            for row in range(LANES)
        ]
        for lane, value in enumerate(simd.transpose(builder, block)):
            offset = simd.load(builder, _at(builder, offsets, _int(8 * lane)), simd.I64, 8)
            _store_octets(builder, value, builder.add(out, offset), pitch)
        return _int(0)

    return types.intp(*[types.intp] * 5), generate


@simd.emitter
def finish_row(context: Any, sums: Any, bias: Any, low: Any, high: Any, out: Any, channels: Any) -> Any:
    """``out[c] = clip(sums[c] + bias[c])`` for at most 16 channels; a NaN stays NaN. `out` may be `sums`."""

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        sums, bias, low, high, out, channels = given
        shift = simd.load_first(builder, simd.pointer(builder, bias), _VECTOR, channels)
        result = simd.fadd(builder, simd.load(builder, simd.pointer(builder, sums), _VECTOR, _BYTES), shift)
        # larger and smaller return their second operand if it is NaN.
        result = simd.larger(builder, simd.broadcast(builder, low, LANES), result)
        result = simd.smaller(builder, simd.broadcast(builder, high, LANES), result)
        simd.store_first(builder, simd.pointer(builder, out), result, channels)
        return _int(0)

    return types.intp(types.intp, types.intp, types.float32, types.float32, types.intp, types.intp), generate
