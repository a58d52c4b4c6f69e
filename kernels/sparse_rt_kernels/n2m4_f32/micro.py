"""SIMD micro-kernels of the float32 2:4 family: the register tile and what moves data into and out of panels.

Each is a Numba intrinsic on addresses (intp). They return an intp, because Numba may drop a call that returns nothing.
The IR is plain ``<16 x float>``: LLVM splits it for CPUs with narrower registers.
"""

from typing import Any

from llvmlite import ir

from sparse_rt_kernels import simd
from sparse_rt_kernels.compiler import cgutils, types
from sparse_rt_kernels.n2m4_f32 import channel_micro
from sparse_rt_kernels.n2m4_f32.tiling import CHANNELS, LANES, REDUCTION

__all__ = [
    "HALF",
    "copy_lanes",
    "copy_rows",
    "first_lane",
    "gather_lanes",
    "lanes_on_line",
    "spread_rest",
    "tile",
    "tile_and_rest",
    "transpose_half_out",
    "transpose_in",
    "transpose_out",
    "zero_lanes",
]

#: Rows of a block that :func:`transpose_half_out` writes.
HALF = LANES // 2

_VECTOR = simd.vector(simd.F32, LANES)
_HALF_VECTOR = simd.vector(simd.F32, HALF)
_OFFSETS = simd.vector(simd.I32, LANES)
_MASK = simd.vector(ir.IntType(1), LANES)
_BYTES = LANES * 4
# The even quarters of two registers; the odd ones.
_QUARTERS = [[4 * quarter + lane for quarter in range(odd, 8, 2) for lane in range(4)] for odd in range(2)]


def _int(value: int) -> Any:
    return ir.Constant(simd.I64, value)


def _returns_intp(arguments: int) -> Any:
    return types.intp(*[types.intp] * arguments)


def _mask(builder: Any, bits: Any) -> Any:
    """Return the low 16 bits of an i64 as a mask of lanes."""
    return builder.bitcast(builder.trunc(bits, ir.IntType(LANES)), _MASK)


def _bits(builder: Any, mask: Any) -> Any:
    """Return a mask of lanes as the low 16 bits of an i64."""
    return builder.zext(builder.bitcast(mask, ir.IntType(LANES)), simd.I64)


def _not_finite(builder: Any, values: list[Any]) -> Any:
    """Return, as 16 bits, the lanes in which any of `values` is infinite or NaN."""
    # 0 * x is NaN exactly for those, and a NaN stays in the sum. Four sums do not wait for each other.
    zero = ir.Constant(_VECTOR, None)
    totals = [zero] * min(4, len(values))
    for number, value in enumerate(values):
        totals[number % 4] = simd.fma(builder, zero, value, totals[number % 4])
    total = totals[0]
    for other in totals[1:]:
        total = simd.fadd(builder, total, other)
    return _bits(builder, builder.fcmp_unordered("uno", total, total))


def _larger_magnitude(builder: Any, value: Any, largest: Any) -> Any:
    """Return the larger of `largest` and the bits of |value|, lane by lane.

    A float is finite if its bits without the sign are less than those of infinity: a maximum of integers takes one
    cycle, and waits for no more than the one before.
    """
    bits = builder.and_(builder.bitcast(value, _OFFSETS), simd.constant(simd.I32, [0x7FFFFFFF] * LANES))
    return builder.select(builder.icmp_signed(">", bits, largest), bits, largest)


def _has_not_finite(builder: Any, largest: Any) -> Any:
    """Return for each lane whether the largest magnitude, as bits, is that of infinity or NaN."""
    return builder.icmp_signed(">=", largest, simd.constant(simd.I32, [0x7F800000] * LANES))


def _turn_quarters(builder: Any, rows: list[Any]) -> list[Any]:
    """Transpose 4 rows within each quarter of 4 lanes: lane j of row i becomes lane i of row j.

    Unpack instructions, which take no lane number from memory or a register as a permutation across quarters does.
    """
    starts = range(0, LANES, 4)
    for _ in range(2):
        lanes = [[lane for q in starts for x in (q + h, q + h + 1) for lane in (x, LANES + x)] for h in (0, 2)]
        rows = [simd.shuffle(builder, rows[i], rows[i + 2], half) for i in range(2) for half in lanes]
    return rows


def _turn(builder: Any, rows: list[Any]) -> list[Any]:
    """Transpose 16 rows: within quarters of lanes, then whole quarters."""
    rows = [row for first in range(0, LANES, 4) for row in _turn_quarters(builder, rows[first : first + 4])]
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


# --- the register tile -----------------------------------------------------------------------------------------------


def _load_accumulators(builder: Any, accumulators: list[list[Any]], partial: Any) -> None:
    """Start from the partial sums at address `partial`, (4, 16 * vectors) float32, or from zero if it is 0."""
    with builder.if_else(builder.icmp_signed("==", partial, _int(0))) as (fresh, resumed):
        with fresh:
            for row in accumulators:
                for slot in row:
                    builder.store(ir.Constant(_VECTOR, None), slot)
        with resumed:
            base = simd.pointer(builder, partial)
            for channel, row in enumerate(accumulators):
                for vector, slot in enumerate(row):
                    place = simd.element(builder, base, (channel * len(row) + vector) * _BYTES)
                    builder.store(simd.load(builder, place, _VECTOR, _BYTES), slot)


def _load_index(builder: Any, address: Any) -> Any:
    """Load the indexes of 4 channels, as an atomic load: LLVM leaves it where it stands."""
    return builder.load_atomic(builder.inttoptr(address, simd.I32.as_pointer()), "monotonic", CHANNELS)


def _multiply(
    builder: Any,
    accumulators: list[list[Any]],
    panel: Any,
    values: Any,
    index: Any,
    octets: Any,
    ahead: Any,
    rest: list[Any],
    rest_x: Any,
) -> None:
    """Add 8 reduction elements a turn. Channels alternate innermost, so that no FMA waits for the one before.

    The accumulators `rest` are those of single rows, (octets, rows, 8) at `rest_x`, whose lanes are slots and channels.

    A turn's indexes are loaded a turn early. The CPU works off loads in order: behind those of a whole turn, the load
    would come so late that the addresses made of it keep the FMAs waiting (8 of 56 cycles on Zen 5).
    """
    row_bytes = len(accumulators[0]) * _BYTES
    panel_at = cgutils.alloca_once_value(builder, panel)
    values_at = cgutils.alloca_once_value(builder, values)
    index_at = cgutils.alloca_once_value(builder, index)
    rest_at = cgutils.alloca_once_value(builder, rest_x)
    loaded_at = cgutils.alloca_once_value(builder, _load_index(builder, index))
    index_ahead = builder.add(index, builder.ashr(ahead, _int(4)))
    for line in range(2):
        simd.prefetch(builder, simd.element(builder, simd.pointer(builder, index_ahead), line * 64), 1)
    last_index = builder.add(index, builder.mul(builder.sub(octets, _int(1)), _int(CHANNELS)))
    with cgutils.for_range(builder, octets):
        positions = builder.zext(builder.load(loaded_at), simd.I64)
        here = builder.load(index_at)
        further = builder.select(builder.icmp_signed("<", here, last_index), _int(CHANNELS), _int(0))
        builder.store(builder.add(here, further), index_at)
        builder.store(_load_index(builder, builder.load(index_at)), loaded_at)
        octet_rows = builder.load(panel_at)
        weights = simd.pointer(builder, builder.load(values_at))
        simd.prefetch(builder, simd.element(builder, weights, ahead), 1)
        # One load for all weights of 8 elements: FMAs with a memory operand keep the load ports busy and leave a
        # shuffle port idle, so each weight is broadcast from the register, by one shuffle after one for its slot.
        held = simd.in_register(builder, simd.load(builder, weights, _VECTOR, _BYTES))
        for slot in range(4):
            # Slot 0 and 1 belong to the first group of 4 rows; the second slot of a group names e1..e3.
            first_row = 4 * (slot // 2) + slot % 2
            of_slot = [slot * CHANNELS + lane % CHANNELS for lane in range(LANES)]
            quads = simd.in_register(builder, simd.shuffle(builder, held, held, of_slot))
            for channel in range(CHANNELS):
                named = builder.and_(builder.lshr(positions, _int(8 * channel + 2 * slot)), _int(3))
                row = builder.add(octet_rows, builder.mul(named, _int(row_bytes)))
                row = simd.pointer(builder, builder.add(row, _int(first_row * row_bytes)))
                of_channel = [lane // CHANNELS * CHANNELS + channel for lane in range(LANES)]
                weight = simd.shuffle(builder, quads, quads, of_channel)
                for vector, place in enumerate(accumulators[channel]):
                    x = simd.load(builder, simd.element(builder, row, vector * _BYTES), _VECTOR, _BYTES)
                    builder.store(simd.fma(builder, weight, x, builder.load(place)), place)
        if rest:
            channel_micro.add_rows(builder, rest, builder.load(rest_at), held, here)
            after = builder.add(builder.load(rest_at), _int(len(rest) * REDUCTION * 4))
            builder.store(after, rest_at)
        builder.store(builder.add(octet_rows, _int(REDUCTION * row_bytes)), panel_at)
        builder.store(builder.add(builder.load(values_at), _int(4 * CHANNELS * 4)), values_at)


def _clipped(builder: Any, value: Any, low: Any, high: Any) -> Any:
    """Return `value` within bounds; larger and smaller return their second operand if it is NaN."""
    return simd.smaller(builder, high, simd.larger(builder, low, value))


def _store_results(builder: Any, accumulators: list[list[Any]], ending: Any) -> None:
    """Store the sums, finished if there is a bias; `ending` is what :func:`tile` takes, as one value."""
    bias, low, high, residual, base, stride, channels, last_lanes = (
        builder.extract_value(ending, number) for number in range(8)
    )
    with builder.if_else(builder.icmp_signed("!=", bias, _int(0))) as (finished, partial):
        with finished:
            _finish(builder, accumulators, (bias, low, high, residual), (base, stride, channels, last_lanes))
        with partial:
            for channel, row in enumerate(accumulators):
                target = simd.pointer(builder, builder.add(base, builder.mul(stride, _int(channel))))
                for vector, slot in enumerate(row):
                    place = simd.element(builder, target, vector * _BYTES)
                    simd.store(builder, place, builder.load(slot), _BYTES)


def _finish(
    builder: Any, accumulators: list[list[Any]], added: tuple[Any, Any, Any, Any], out: tuple[Any, Any, Any, Any]
) -> None:
    """Add bias and residual, clip and store; `added` and `out` are the two halves of what :func:`tile` ends with."""
    bias, low, high, residual = added
    base, stride, channels, last_lanes = out
    low, high = simd.broadcast(builder, low, LANES), simd.broadcast(builder, high, LANES)
    has_residual = builder.icmp_signed("!=", residual, _int(0))
    last_is_full = builder.icmp_signed(">=", last_lanes, _int(LANES))

    def finish(channel: int, shift: Any, offset: Any, *, adds: bool) -> None:
        target = simd.pointer(builder, builder.add(base, offset))
        other = simd.pointer(builder, builder.add(residual, offset))
        *before, last = enumerate(accumulators[channel])

        def store(vector: int, slot: Any, lanes: Any) -> None:
            result = simd.fadd(builder, builder.load(slot), shift)
            if adds:
                place = simd.element(builder, other, vector * _BYTES)
                whole = lanes is None
                read = (
                    simd.load(builder, place, _VECTOR, 4) if whole else simd.load_first(builder, place, _VECTOR, lanes)
                )
                result = simd.fadd(builder, result, read)
            place, result = simd.element(builder, target, vector * _BYTES), _clipped(builder, result, low, high)
            if lanes is None:
                simd.store(builder, place, result, 4)
            else:
                simd.store_first(builder, place, result, lanes)

        for vector, slot in before:
            store(vector, slot, None)
        with builder.if_else(last_is_full) as (full, ragged):
            with full:
                store(*last, None)
            with ragged:
                store(*last, last_lanes)

    for channel in range(len(accumulators)):
        with builder.if_then(builder.icmp_signed("<", _int(channel), channels)):
            shift = simd.load(builder, simd.pointer(builder, builder.add(bias, _int(channel * 4))), simd.F32, 4)
            shift = simd.broadcast(builder, shift, LANES)
            offset = builder.mul(stride, _int(channel))
            with builder.if_else(has_residual) as (with_residual, bare):
                with with_residual:
                    finish(channel, shift, offset, adds=True)
                with bare:
                    finish(channel, shift, offset, adds=False)


@simd.emitter
def tile(
    context: Any,
    vectors: Any,
    panel: Any,
    values: Any,
    index: Any,
    octets: Any,
    ahead: Any,
    partial: Any,
    ending: Any,
) -> Any:
    """``out[c, p] = clip(sum_s values[s, c] * panel[row(s, c), p] + partial[c, p] + bias[c] + residual[c, p])``.

    For 4 channels c; ``row(s, c)`` is the panel row that slot s of channel c names: 4 (s // 2) + s % 2 + its 2 index
    bits.

    Parameters
    ----------
    vectors
        Literal int: the tile spans 16 * `vectors` lanes p.
    panel
        (8 * octets, 16 * vectors) float32, 64-byte aligned.
    values, index
        (octets, 4, 4) float32, 64-byte aligned, and (octets, 4) uint8 of one tile of channels; see :mod:`.weight`.
    octets
        Reduction elements / 8; may be 0.
    ahead
        Bytes from these values to those that are called into L1 meanwhile, with the indexes a sixteenth as far; any
        distance will do.
    partial
        (4, 16 * vectors) float32, 64-byte aligned; 0 starts from zero.
    ending
        A tuple:

        - bias: (channels,) float32; 0 leaves partial sums, unclipped: 4 channels, whole vectors, 64-byte aligned
        - low, high: float32 clip bounds; a NaN stays NaN
        - residual: as out, perhaps out itself; 0 for none
        - out, stride: first channel's first lane, and bytes from channel to channel. May hold NaN on entry; may be
          `partial`
        - channels: how many of the 4 channels are stored
        - last_lanes: how many lanes of the last vector are stored, at least 1
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        _, panel, values, index, octets, ahead, partial, ending = given
        width = vectors.literal_value
        accumulators = [[cgutils.alloca_once(builder, _VECTOR) for _ in range(width)] for _ in range(CHANNELS)]
        _load_accumulators(builder, accumulators, partial)
        _multiply(builder, accumulators, panel, values, index, octets, ahead, [], panel)
        _store_results(builder, accumulators, ending)
        return _int(0)

    return types.intp(vectors, *[types.intp] * 6, ending), generate


@simd.emitter
def tile_and_rest(
    context: Any,
    vectors: Any,
    rest: Any,
    panel: Any,
    values: Any,
    index: Any,
    octets: Any,
    ahead: Any,
    partial: Any,
    ending: Any,
    rest_x: Any,
    rest_sums: Any,
) -> Any:
    """Compute :func:`tile`, and meanwhile ``rest_sums[r, c] (+)= sum_s values[s, c] * rest_x[row(s, c), r]``.

    Rows that fill no vector meet the weights in registers, as lanes of channels; see :mod:`.channel_micro`.

    Parameters
    ----------
    rest
        Literal int: how many such rows, at most 4.
    rest_x
        (octets, rest, 8) float32, 32-byte aligned.
    rest_sums
        (4, 4) float32, 64-byte aligned. They are added to if there is a `partial`.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        _, _, panel, values, index, octets, ahead, partial, ending, rest_x, rest_sums = given
        width = vectors.literal_value
        accumulators = [[cgutils.alloca_once(builder, _VECTOR) for _ in range(width)] for _ in range(CHANNELS)]
        zero = ir.Constant(_VECTOR, None)
        rows = [cgutils.alloca_once_value(builder, zero) for _ in range(rest.literal_value)]
        _load_accumulators(builder, accumulators, partial)
        _multiply(builder, accumulators, panel, values, index, octets, ahead, rows, rest_x)
        place = simd.pointer(builder, rest_sums)
        before = simd.load(builder, place, _VECTOR, _BYTES)
        before = builder.select(builder.icmp_signed("!=", partial, _int(0)), before, zero)
        total = channel_micro.slots_summed(builder, [builder.load(row) for row in rows])
        simd.store(builder, place, simd.fadd(builder, before, total), _BYTES)
        _store_results(builder, accumulators, ending)
        return _int(0)

    return types.intp(vectors, rest, *[types.intp] * 6, ending, types.intp, types.intp), generate


# --- into the panel --------------------------------------------------------------------------------------------------


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
        places = [simd.pointer(builder, builder.add(source, builder.mul(stride, _int(row)))) for row in range(LANES)]
        held = [cgutils.alloca_once(builder, _VECTOR) for _ in places]
        with builder.if_then(builder.icmp_signed("!=", ahead, _int(0))):
            for place in places:
                simd.prefetch(builder, simd.element(builder, place, ahead))
        full = builder.and_(
            builder.icmp_signed(">=", rows, _int(LANES)), builder.icmp_signed(">=", columns, _int(LANES))
        )
        with builder.if_else(full) as (whole, ragged):
            with whole:
                for place, slot in zip(places, held, strict=True):
                    builder.store(simd.load(builder, place, _VECTOR, 4), slot)
            with ragged:
                for row, (place, slot) in enumerate(zip(places, held, strict=True)):
                    present = builder.select(builder.icmp_signed("<", _int(row), rows), columns, _int(0))
                    builder.store(simd.load_first(builder, place, _VECTOR, present), slot)
        block = [builder.load(slot) for slot in held]
        for row, value in enumerate(_turn(builder, block)):
            place = simd.pointer(builder, builder.add(out, builder.mul(out_stride, _int(row))))
            simd.store(builder, place, value, _BYTES)
        return _not_finite(builder, block)

    return _returns_intp(7), generate


@simd.emitter
def spread_rest(context: Any, rest: Any, source: Any, out: Any) -> Any:
    """``out[o, r, j] = source[8 o + j, r]`` for two octets o and the first `rest` of 16 lanes r, a literal int.

    `source` is (16, 16) float32, 64-byte aligned; `out` is 32-byte aligned.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        _, source, out = given
        rows = rest.literal_value
        block = [
            simd.load(builder, simd.element(builder, simd.pointer(builder, source), row * _BYTES), _VECTOR, _BYTES)
            for row in range(LANES)
        ]
        for row, value in enumerate(simd.transpose(builder, block)[:rows]):
            channel_micro.store_octets(
                builder, value, builder.add(out, _int(row * REDUCTION * 4)), _int(rows * REDUCTION * 4)
            )
        return _int(0)

    return types.intp(rest, types.intp, types.intp), generate


@simd.emitter
def lanes_on_line(context: Any, offsets: Any, base: Any, step: Any) -> Any:
    """Return, as 16 bits, the lanes l whose int32 offset is ``base + step * l``."""

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        offsets, base, step = given
        found = simd.load(builder, simd.pointer(builder, offsets), _OFFSETS, 4)
        step, base = builder.trunc(step, simd.I32), builder.trunc(base, simd.I32)
        line = simd.multiply(builder, simd.broadcast(builder, step, LANES), simd.constant(simd.I32, range(LANES)))
        line = simd.add(builder, line, simd.broadcast(builder, base, LANES))
        return _bits(builder, builder.icmp_signed("==", found, line))

    return _returns_intp(3), generate


@simd.emitter
def first_lane(context: Any, bits: Any) -> Any:
    """Return the number of the lowest bit that is set; one is."""

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        return builder.cttz(given[0], ir.Constant(ir.IntType(1), 1))

    return _returns_intp(1), generate


def _masked_load(builder: Any, source: Any, step: int, lanes: Any, held: Any) -> Any:
    """Return ``source[step * l]`` in the lanes l of the mask `lanes`, and `held` in the others."""
    if step == 1:
        return simd.load_masked(builder, source, _VECTOR, lanes, held)
    zero, none = ir.Constant(_VECTOR, None), ir.Constant(_MASK, None)
    halves = []
    for half in range(2):
        # Element 2 * i of a half is lane i of it; the elements between are not read.
        spread = [LANES if i % 2 else LANES // 2 * half + i // 2 for i in range(LANES)]
        wanted = simd.shuffle(builder, lanes, none, spread)
        halves.append(simd.load_masked(builder, simd.element(builder, source, half * _BYTES), _VECTOR, wanted, zero))
    return builder.select(lanes, simd.shuffle(builder, halves[0], halves[1], range(0, 2 * LANES, 2)), held)


@simd.emitter
def copy_lanes(
    context: Any, source: Any, stride: Any, step: Any, mask: Any, kept: Any, out: Any, out_stride: Any, rows: Any
) -> Any:
    """``out[r, l] = source[r, step * l]`` for rows r and the lanes l of `mask`.

    Of the other lanes those of `kept` stay, the rest become zero. `step` is a literal 1 or 2; masks are 16 bits;
    strides are in bytes; `out` is 64-byte aligned. Only the lanes of `mask` are read. Returns 0 if all rows are finite.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        source, stride, _, mask, kept, out, out_stride, rows = given
        lanes, kept_lanes, zero = _mask(builder, mask), _mask(builder, kept), ir.Constant(_VECTOR, None)
        source_at, out_at = cgutils.alloca_once_value(builder, source), cgutils.alloca_once_value(builder, out)
        largest_at = cgutils.alloca_once_value(builder, ir.Constant(_OFFSETS, None))

        def copy(keep: bool) -> None:
            with cgutils.for_range(builder, rows):
                place = simd.pointer(builder, builder.load(out_at))
                held = simd.load_masked(builder, place, _VECTOR, kept_lanes, zero) if keep else zero
                here = simd.pointer(builder, builder.load(source_at))
                value = _masked_load(builder, here, step.literal_value, lanes, held)
                simd.store(builder, place, value, _BYTES)
                builder.store(_larger_magnitude(builder, value, builder.load(largest_at)), largest_at)
                builder.store(builder.add(builder.load(source_at), stride), source_at)
                builder.store(builder.add(builder.load(out_at), out_stride), out_at)

        with builder.if_else(builder.icmp_signed("==", kept, _int(0))) as (first, further):
            with first:
                copy(False)
            with further:
                copy(True)
        return _bits(builder, _has_not_finite(builder, builder.load(largest_at)))

    return types.intp(types.intp, types.intp, step, *[types.intp] * 5), generate


@simd.emitter
def copy_rows(context: Any, vectors: Any, source: Any, stride: Any, copies: Any, out: Any, rows: Any) -> Any:
    """``out[r, v, l] = source[r, base[v] + l]`` for rows r, `vectors` vectors v and the lanes l of mask v, else 0.

    Parameters
    ----------
    vectors
        Literal int.
    source, stride
        float32 items, and the bytes from row to row. Only the lanes of the masks are read.
    copies
        (vectors, 4) int64: a base in items, and a mask of 16 bits, are number 1 and 2 of each row.
    out
        (rows, vectors, 16) float32, 64-byte aligned.

    Returns
    -------
    int
        0 if all that was read is finite.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        _, source, stride, copies, out, rows = given
        width, none = vectors.literal_value, ir.Constant(_OFFSETS, None)
        table = [
            [
                simd.load(builder, simd.pointer(builder, builder.add(copies, _int(32 * v + at))), simd.I64, 8)
                for at in (8, 16)
            ]
            for v in range(width)
        ]
        plan = [(builder.mul(base, _int(4)), _mask(builder, lanes)) for base, lanes in table]
        source_at, out_at = cgutils.alloca_once_value(builder, source), cgutils.alloca_once_value(builder, out)
        # Neighbouring vectors do not wait for each other's maximum.
        largest = [cgutils.alloca_once_value(builder, none) for _ in range(2)]
        with cgutils.for_range(builder, rows):
            here, to = builder.load(source_at), simd.pointer(builder, builder.load(out_at))
            for vector, (base, lanes) in enumerate(plan):
                place = simd.pointer(builder, builder.add(here, base))
                value = simd.load_masked(builder, place, _VECTOR, lanes, ir.Constant(_VECTOR, None))
                simd.store(builder, simd.element(builder, to, vector * _BYTES), value, _BYTES)
                slot = largest[vector % 2]
                builder.store(_larger_magnitude(builder, value, builder.load(slot)), slot)
            builder.store(builder.add(here, stride), source_at)
            builder.store(builder.add(builder.load(out_at), _int(width * _BYTES)), out_at)
        return _bits(builder, builder.or_(*(_has_not_finite(builder, builder.load(slot)) for slot in largest)))

    return types.intp(vectors, *[types.intp] * 5), generate


@simd.emitter
def gather_lanes(context: Any, source: Any, offsets: Any, out: Any) -> Any:
    """``out[l] = source[offsets[l]]`` (float32 items, int32 offsets), zero where the offset is negative.

    Returns 0 if `out` is finite.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        source, offsets, out = given
        where = simd.load(builder, simd.pointer(builder, offsets), _OFFSETS, 4)
        value = simd.gather(builder, simd.pointer(builder, source), where, _VECTOR)
        simd.store(builder, simd.pointer(builder, out), value, _BYTES)
        return _not_finite(builder, [value])

    return _returns_intp(3), generate


@simd.emitter
def zero_lanes(context: Any, out: Any) -> Any:
    """``out[l] = 0`` for 16 lanes; `out` is 64-byte aligned."""

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        simd.store(builder, simd.pointer(builder, given[0]), ir.Constant(_VECTOR, None), _BYTES)
        return _int(0)

    return _returns_intp(1), generate


# --- out of the tile -------------------------------------------------------------------------------------------------


def _writes_out() -> Any:
    return types.intp(*[types.intp] * 3, *[types.float32] * 2, *[types.intp] * 4)


def _store_rows(builder: Any, rows: list[Any], added: tuple[Any, Any, Any], out: tuple[Any, Any, Any, Any]) -> None:
    """Store the first columns of the first of `rows`, after adding a residual, if there is one, and clipping the sum.

    `added` is the residual's address and the bounds, `out` the address, stride, and numbers of rows and columns.
    """
    residual, low, high = added
    base, stride, count, columns = out
    low, high = simd.broadcast(builder, low, LANES), simd.broadcast(builder, high, LANES)

    def store(*, adds: bool, whole: bool) -> None:
        for number, value in enumerate(rows):
            offset = builder.mul(stride, _int(number))
            place, other = (simd.pointer(builder, builder.add(first, offset)) for first in (base, residual))
            if whole:
                total = simd.fadd(builder, value, simd.load(builder, other, _VECTOR, 4)) if adds else value
                simd.store(builder, place, _clipped(builder, total, low, high) if adds else total, 4)
                continue
            with builder.if_then(builder.icmp_signed("<", _int(number), count)):
                total = simd.fadd(builder, value, simd.load_first(builder, other, _VECTOR, columns)) if adds else value
                simd.store_first(builder, place, _clipped(builder, total, low, high) if adds else total, columns)

    is_whole = builder.icmp_signed("==", builder.add(count, columns), _int(len(rows) + LANES))
    with builder.if_else(builder.icmp_signed("!=", residual, _int(0))) as (added_to, bare):
        for branch, adds in ((added_to, True), (bare, False)):
            with branch, builder.if_else(is_whole) as (full, ragged):
                with full:
                    store(adds=adds, whole=True)
                with ragged:
                    store(adds=adds, whole=False)


@simd.emitter
def transpose_half_out(
    context: Any,
    source: Any,
    stride: Any,
    residual: Any,
    low: Any,
    high: Any,
    out: Any,
    out_stride: Any,
    rows: Any,
    columns: Any,
) -> Any:
    """Write 8 rows of 16 columns, transposed, into a row-major float32 matrix: ``out[i, j] = source[j, i]``.

    Only the first `rows` rows and `columns` columns of `out` are written; all 16 rows of `source` are read, at
    addresses that are multiples of 32. Strides are in bytes. Where `residual` is not 0, it is the address of what is
    added, in the form of `out` and perhaps `out` itself, and the sum is clipped to [low, high].
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        source, stride, residual, low, high, *out = given
        halves = [
            simd.load(
                builder, simd.pointer(builder, builder.add(source, builder.mul(stride, _int(j)))), _HALF_VECTOR, 32
            )
            for j in range(LANES)
        ]
        # Columns j and 8 + j share a register.
        turned = [simd.shuffle(builder, a, b, range(LANES)) for a, b in zip(halves[:HALF], halves[HALF:], strict=True)]
        quarters = [row for first in (0, 4) for row in _turn_quarters(builder, turned[first : first + 4])]
        # Quarters 0 and 2 of registers j and 4 + j are row j, quarters 1 and 3 row 4 + j.
        order = [[4 * x + lane for x in (q, 4 + q, 2 + q, 6 + q) for lane in range(4)] for q in range(2)]
        turned = [simd.shuffle(builder, quarters[j], quarters[4 + j], order[q]) for q in range(2) for j in range(4)]
        _store_rows(builder, turned, (residual, low, high), tuple(out))
        return _int(0)

    return _writes_out(), generate


@simd.emitter
def transpose_out(
    context: Any,
    source: Any,
    stride: Any,
    residual: Any,
    low: Any,
    high: Any,
    out: Any,
    out_stride: Any,
    rows: Any,
    columns: Any,
) -> Any:
    """Write a 16 x 16 block transposed into a row-major float32 matrix: ``out[i, j] = source[j, i]``.

    Only the first `rows` rows and `columns` columns of `out` are written. Strides are in bytes; `source` is 64-byte
    aligned. A residual as in :func:`transpose_half_out`.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        source, stride, residual, low, high, *out = given
        block = [
            simd.load(builder, simd.pointer(builder, builder.add(source, builder.mul(stride, _int(row)))), _VECTOR, 64)
            for row in range(LANES)
        ]
        _store_rows(builder, simd.transpose(builder, block), (residual, low, high), tuple(out))
        return _int(0)

    return _writes_out(), generate
