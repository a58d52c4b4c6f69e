"""The register tile of the float32 2:4 family, and its epilogue.

Each is a Numba intrinsic on addresses (intp). They return an intp, because Numba may drop a call that returns nothing.
The IR is plain ``<16 x float>``: LLVM splits it for CPUs with narrower registers.
"""

from typing import Any, NamedTuple

from llvmlite import ir

from sparse_rt_kernels.jit.compiler import cgutils, types
from sparse_rt_kernels.jit.llvm import F32, I32, I64
from sparse_rt_kernels.n2m4_f32.blocking.panels import CHANNELS, REDUCTION
from sparse_rt_kernels.n2m4_f32.tile import channel_lanes
from sparse_rt_kernels.product.f32.ending import Ending, clipped
from sparse_rt_kernels.vectors import simd
from sparse_rt_kernels.vectors.records import fields_of
from sparse_rt_kernels.vectors.registers import FLOATS, LANES, REGISTER

__all__ = ["Operands", "tile", "tile_and_rest"]


class Operands(NamedTuple):
    """What a tile of 4 channels multiplies.

    Attributes
    ----------
    panel
        (8 * octets, 16 * vectors) float32, 64-byte aligned.
    values, indexes
        (octets, 4, 4) float32, 64-byte aligned, and (octets, 4) uint8 of one tile of channels; see :mod:`.weight`.
    octets
        Reduction elements / 8; may be 0.
    ahead
        Bytes from these values to those that are called into L1 meanwhile, with the indexes a sixteenth as far; any
        distance will do.
    partial
        (4, 16 * vectors) float32, 64-byte aligned; 0 starts from zero.
    """

    panel: int
    values: int
    indexes: int
    octets: int
    ahead: int
    partial: int


def _load_accumulators(builder: Any, accumulators: list[list[Any]], partial: Any) -> None:
    """Start from the partial sums at address `partial`, (4, 16 * vectors) float32, or from zero if it is 0."""
    with builder.if_else(builder.icmp_signed("==", partial, I64(0))) as (fresh, resumed):
        with fresh:
            for row in accumulators:
                for slot in row:
                    builder.store(ir.Constant(FLOATS, None), slot)
        with resumed:
            base = simd.pointer(builder, partial)
            for channel, row in enumerate(accumulators):
                for vector, slot in enumerate(row):
                    place = simd.element(builder, base, (channel * len(row) + vector) * REGISTER)
                    builder.store(simd.load(builder, place, FLOATS, REGISTER), slot)


def _load_index(builder: Any, address: Any) -> Any:
    """Load the indexes of 4 channels, as an atomic load: LLVM leaves it where it stands."""
    return builder.load_atomic(builder.inttoptr(address, I32.as_pointer()), "monotonic", CHANNELS)


def _multiply(builder: Any, accumulators: list[list[Any]], operands: Operands, rest: list[Any], rest_x: Any) -> None:
    """Add 8 reduction elements a turn. Channels alternate innermost, so that no FMA waits for the one before.

    The accumulators `rest` are those of single rows, (octets, rows, 8) at `rest_x`, whose lanes are slots and channels.

    A turn's indexes are loaded a turn early. The CPU works off loads in order: behind those of a whole turn, the load
    would come so late that the addresses made of it keep the FMAs waiting (8 of 56 cycles on Zen 5).
    """
    panel, values, index, octets, ahead, _ = operands
    row_bytes = len(accumulators[0]) * REGISTER
    panel_at = cgutils.alloca_once_value(builder, panel)
    values_at = cgutils.alloca_once_value(builder, values)
    index_at = cgutils.alloca_once_value(builder, index)
    rest_at = cgutils.alloca_once_value(builder, rest_x)
    loaded_at = cgutils.alloca_once_value(builder, _load_index(builder, index))
    index_ahead = builder.add(index, builder.ashr(ahead, I64(4)))
    for line in range(2):
        simd.prefetch(builder, simd.element(builder, simd.pointer(builder, index_ahead), line * 64), 1)
    last_index = builder.add(index, builder.mul(builder.sub(octets, I64(1)), I64(CHANNELS)))
    with cgutils.for_range(builder, octets):
        positions = builder.zext(builder.load(loaded_at), I64)
        here = builder.load(index_at)
        further = builder.select(builder.icmp_signed("<", here, last_index), I64(CHANNELS), I64(0))
        builder.store(builder.add(here, further), index_at)
        builder.store(_load_index(builder, builder.load(index_at)), loaded_at)
        octet_rows = builder.load(panel_at)
        weights = simd.pointer(builder, builder.load(values_at))
        simd.prefetch(builder, simd.element(builder, weights, ahead), 1)
        # One load for all weights of 8 elements: FMAs with a memory operand keep the load ports busy and leave a
        # shuffle port idle, so each weight is broadcast from the register, by one shuffle after one for its slot.
        held = simd.in_register(builder, simd.load(builder, weights, FLOATS, REGISTER))
        for slot in range(4):
            # Slot 0 and 1 belong to the first group of 4 rows; the second slot of a group names e1..e3.
            first_row = 4 * (slot // 2) + slot % 2
            of_slot = [slot * CHANNELS + lane % CHANNELS for lane in range(LANES)]
            quads = simd.in_register(builder, simd.shuffle(builder, held, held, of_slot))
            for channel in range(CHANNELS):
                named = builder.and_(builder.lshr(positions, I64(8 * channel + 2 * slot)), I64(3))
                row = builder.add(octet_rows, builder.mul(named, I64(row_bytes)))
                row = simd.pointer(builder, builder.add(row, I64(first_row * row_bytes)))
                of_channel = [lane // CHANNELS * CHANNELS + channel for lane in range(LANES)]
                weight = simd.shuffle(builder, quads, quads, of_channel)
                for vector, place in enumerate(accumulators[channel]):
                    x = simd.load(builder, simd.element(builder, row, vector * REGISTER), FLOATS, REGISTER)
                    builder.store(simd.fma(builder, weight, x, builder.load(place)), place)
        if rest:
            channel_lanes.add_rows(builder, rest, builder.load(rest_at), held, here)
            after = builder.add(builder.load(rest_at), I64(len(rest) * REDUCTION * 4))
            builder.store(after, rest_at)
        builder.store(builder.add(octet_rows, I64(REDUCTION * row_bytes)), panel_at)
        builder.store(builder.add(builder.load(values_at), I64(4 * CHANNELS * 4)), values_at)


def _store_results(builder: Any, accumulators: list[list[Any]], ending: Any) -> None:
    """Store the sums, finished if there is a bias; `ending` is what :func:`tile` takes, as one value."""
    end = fields_of(builder, Ending, ending)
    with builder.if_else(builder.icmp_signed("!=", end.bias, I64(0))) as (finished, partial):
        with finished:
            _finish(builder, accumulators, end)
        with partial:
            for channel, row in enumerate(accumulators):
                target = simd.pointer(builder, builder.add(end.out, builder.mul(end.stride, I64(channel))))
                for vector, slot in enumerate(row):
                    place = simd.element(builder, target, vector * REGISTER)
                    simd.store(builder, place, builder.load(slot), REGISTER)


def _finish(builder: Any, accumulators: list[list[Any]], end: Any) -> None:
    """Add bias and residual, clip and store; `end` is an :class:`.ending.Ending` of IR values."""
    low, high = simd.broadcast(builder, end.low, LANES), simd.broadcast(builder, end.high, LANES)
    has_residual = builder.icmp_signed("!=", end.residual, I64(0))
    last_is_full = builder.icmp_signed(">=", end.columns, I64(LANES))

    def finish(channel: int, shift: Any, offset: Any, *, adds: bool) -> None:
        target = simd.pointer(builder, builder.add(end.out, offset))
        other = simd.pointer(builder, builder.add(end.residual, offset))
        *before, last = enumerate(accumulators[channel])

        def store(vector: int, slot: Any, lanes: Any) -> None:
            result = simd.fadd(builder, builder.load(slot), shift)
            if adds:
                place = simd.element(builder, other, vector * REGISTER)
                whole = lanes is None
                read = simd.load(builder, place, FLOATS, 4) if whole else simd.load_first(builder, place, FLOATS, lanes)
                result = simd.fadd(builder, result, read)
            place, result = simd.element(builder, target, vector * REGISTER), clipped(builder, result, low, high)
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
                store(*last, end.columns)

    for channel in range(len(accumulators)):
        with builder.if_then(builder.icmp_signed("<", I64(channel), end.rows)):
            shift = simd.load(builder, simd.pointer(builder, builder.add(end.bias, I64(channel * 4))), F32, 4)
            shift = simd.broadcast(builder, shift, LANES)
            offset = builder.mul(end.stride, I64(channel))
            with builder.if_else(has_residual) as (with_residual, bare):
                with with_residual:
                    finish(channel, shift, offset, adds=True)
                with bare:
                    finish(channel, shift, offset, adds=False)


def _accumulators(builder: Any, vectors: int) -> list[list[Any]]:
    return [[cgutils.alloca_once(builder, FLOATS) for _ in range(vectors)] for _ in range(CHANNELS)]


@simd.emitter
def tile(context: Any, vectors: Any, operands: Any, ending: Any) -> Any:
    """``out[c, p] = clip(sum_s values[s, c] * panel[row(s, c), p] + partial[c, p] + bias[c] + residual[c, p])``.

    For 4 channels c; ``row(s, c)`` is the panel row that slot s of channel c names: 4 (s // 2) + s % 2 + its 2 index
    bits.

    Parameters
    ----------
    vectors
        Literal int: the tile spans 16 * `vectors` lanes p.
    operands
        An :class:`Operands`.
    ending
        An :class:`.ending.Ending`: rows are channels; columns, at least 1, are lanes of the last vector; `out` may be
        `partial`. No bias (0) leaves partial sums, unclipped: 4 channels, whole vectors, 64-byte aligned.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        _, operands, ending = given
        multiplied = fields_of(builder, Operands, operands)
        accumulators = _accumulators(builder, vectors.literal_value)
        _load_accumulators(builder, accumulators, multiplied.partial)
        _multiply(builder, accumulators, multiplied, [], multiplied.panel)
        _store_results(builder, accumulators, ending)
        return I64(0)

    return types.intp(vectors, operands, ending), generate


@simd.emitter
def tile_and_rest(
    context: Any, vectors: Any, rest: Any, operands: Any, ending: Any, rest_x: Any, rest_sums: Any
) -> Any:
    """Compute :func:`tile`, and meanwhile ``rest_sums[r, c] (+)= sum_s values[s, c] * rest_x[row(s, c), r]``.

    Rows that fill no vector meet the weights in registers, as lanes of channels; see :mod:`.channel_lanes`.

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
        _, _, operands, ending, rest_x, rest_sums = given
        multiplied = fields_of(builder, Operands, operands)
        accumulators = _accumulators(builder, vectors.literal_value)
        zero = ir.Constant(FLOATS, None)
        rows = [cgutils.alloca_once_value(builder, zero) for _ in range(rest.literal_value)]
        _load_accumulators(builder, accumulators, multiplied.partial)
        _multiply(builder, accumulators, multiplied, rows, rest_x)
        place = simd.pointer(builder, rest_sums)
        before = simd.load(builder, place, FLOATS, REGISTER)
        before = builder.select(builder.icmp_signed("!=", multiplied.partial, I64(0)), before, zero)
        total = channel_lanes.slots_summed(builder, [builder.load(row) for row in rows])
        simd.store(builder, place, simd.fadd(builder, before, total), REGISTER)
        _store_results(builder, accumulators, ending)
        return I64(0)

    return types.intp(vectors, rest, operands, ending, types.intp, types.intp), generate
