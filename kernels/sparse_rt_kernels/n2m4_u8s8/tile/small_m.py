"""Register tiles for small m: few rows, whose weights are used once a call.

A tile of 1, 2 or 4 rows expands the packed index in registers. For 8 rows and more registers are short, and a tile
expands some steps ahead of itself into L1.
"""

from typing import Any, NamedTuple

from llvmlite import ir

from sparse_rt_kernels.jit.compiler import cgutils, types
from sparse_rt_kernels.jit.llvm import I8, I64
from sparse_rt_kernels.n2m4_u8s8.tile.rows import expand_step, multiply_step, start_tile
from sparse_rt_kernels.product.u8s8.sizes import CHANNELS, ROWS, STEP
from sparse_rt_kernels.vectors import simd
from sparse_rt_kernels.vectors.records import fields_of
from sparse_rt_kernels.vectors.registers import BYTES, REGISTER, WORDS

__all__ = ["Chunk", "Packed", "Panel", "expanding_tile", "small_tile"]

#: Steps whose indexes fill one register.
_GROUP = REGISTER // CHANNELS
#: How many bytes ahead of their use a tile of many rows calls values into L1: from memory, without it, 31 cycles a step
#: instead of 16; where they are in L3 it makes no difference.
_AHEAD = 8192


def _load_group(builder: Any, index: Any) -> Any:
    """Return the 64 index bytes of 4 steps, each channel's 4 bytes side by side: one byte shuffle for 4 steps."""
    indexes = simd.load(builder, index, BYTES)
    by_channel = [CHANNELS * step + channel for channel in range(CHANNELS) for step in range(_GROUP)]
    return simd.shuffle(builder, indexes, indexes, by_channel)


def _expand_one(builder: Any, group: Any, step: int) -> Any:
    """Return the controls of one step of a group: two channels share the 64-bit word that shifts select from."""
    shifts = [first + 8 * step + slot for first in (0, 32) for slot in (0, 2, 4, 6)] * 8
    bits = simd.multishift(builder, simd.constant(I8, shifts), group)
    bits = simd.bitwise_and(builder, bits, simd.constant(I8, [3] * 64))
    return simd.add(builder, bits, simd.constant(I8, [0, 1, 4, 5] * 16))


def _multiply_blocks(
    builder: Any, accumulators: list[list[Any]], panel: Any, values: list[Any], controls: list[Any]
) -> None:
    """Add one step's products of several blocks of channels, which share the broadcasts: one dot product a row."""
    for row in range(len(accumulators[0])):
        octet = simd.load(builder, simd.element(builder, panel, row * STEP), I64, STEP)
        lanes = simd.bitcast(builder, simd.broadcast(builder, octet, 8), BYTES)
        for slots, weight, control in zip(accumulators, values, controls, strict=True):
            chosen = simd.bitcast(builder, simd.shuffle_bytes(builder, lanes, control), WORDS)
            builder.store(simd.dot_u8s8(builder, builder.load(slots[row]), chosen, weight), slots[row])


class Panel(NamedTuple):
    """Packed rows of a tile: first byte of its first row, and bytes from step to step."""

    first: Any
    step: Any


class Packed(NamedTuple):
    """A weight whose index is expanded on the way.

    Attributes
    ----------
    values, index
        (steps, 16, 4) int8 and (steps, 16) uint8, the packed index; 64- and 16-byte aligned.
    steps
        Steps of 8 reduction elements.
    values_block, index_block
        Bytes from a block of 16 channels to the next one.
    """

    values: Any
    index: Any
    steps: Any
    values_block: Any
    index_block: Any


class _Walk:
    """Pointers into panel, values and index that move on, and the accumulators [chain][block][row]."""

    def __init__(self, builder: Any, shape: tuple[int, int, int], panel: Panel, weight: Packed) -> None:
        chains, blocks, rows = shape
        self.accumulators = [
            [[cgutils.alloca_once(builder, WORDS) for _ in range(rows)] for _ in range(blocks)] for _ in range(chains)
        ]
        starts = (panel.first, weight.values, weight.index)
        self._places = [cgutils.alloca_once_value(builder, simd.pointer(builder, each)) for each in starts]
        self._panel_step, self._values_block, self._index_block = panel.step, weight.values_block, weight.index_block

    def run(self, builder: Any, turns: Any, unrolled: int) -> None:
        """Run `turns` turns of `unrolled` steps, 4 or 1, which take turns on the chains."""
        blocks = len(self.accumulators[0])
        with cgutils.for_range(builder, turns):
            panel, values, index = (builder.load(place) for place in self._places)
            weights = [values] + [simd.element(builder, values, self._values_block)] * (blocks - 1)
            indexes = [index] + [simd.element(builder, index, self._index_block)] * (blocks - 1)
            groups = [_load_group(builder, each) for each in indexes] if unrolled == _GROUP else []
            # All at once: what a tile of many rows waits for must be far ahead of it.
            if groups:
                expanded = [[_expand_one(builder, group, step) for group in groups] for step in range(unrolled)]
            else:
                expanded = [[expand_step(builder, each) for each in indexes]]
            for step, controls in enumerate(expanded):
                loaded = [
                    simd.load(builder, simd.element(builder, each, step * REGISTER), WORDS, REGISTER)
                    for each in weights
                ]
                accumulators = self.accumulators[step % len(self.accumulators)]
                _multiply_blocks(builder, accumulators, panel, loaded, controls)
                panel = simd.element(builder, panel, self._panel_step)
            builder.store(panel, self._places[0])
            builder.store(simd.element(builder, values, unrolled * REGISTER), self._places[1])
            builder.store(simd.element(builder, index, unrolled * CHANNELS), self._places[2])


@simd.emitter
def small_tile(
    context: Any, rows: Any, chains: Any, blocks: Any, panel: Any, weight: Any, sums: Any, resume: Any
) -> Any:
    """:func:`.rows.tile` for few rows: the packed index is expanded in registers, without a way through L1.

    Parameters
    ----------
    rows
        Literal int, less than 8: rows r of this tile.
    chains
        Literal int, a divisor of 4: accumulators a row. One dot product waits for the one before it in the same
        accumulator, so that tiles of few rows need several to fill the pipes.
    blocks
        Literal int: blocks of 16 channels, 1 or 2. Two share the broadcasts, which bound tiles of few rows.
    panel, weight
        :class:`Panel` and :class:`Packed`.
    sums
        (blocks, 24, 16) int32, 64-byte aligned, of which `rows` rows are written.
    resume
        As for :func:`.rows.tile`.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        *_, panel, weight, sums, resume = given
        shape = (chains.literal_value, blocks.literal_value, rows.literal_value)
        packed = fields_of(builder, Packed, weight)
        walk = _Walk(builder, shape, fields_of(builder, Panel, panel), packed)
        first, *others = walk.accumulators
        places = []
        for block, slots in enumerate(first):
            places.append(start_tile(builder, slots, builder.add(sums, I64(block * ROWS * REGISTER)), resume))
        for slot in (slot for chain in others for slots in chain for slot in slots):
            builder.store(ir.Constant(WORDS, None), slot)
        walk.run(builder, builder.udiv(packed.steps, I64(_GROUP)), _GROUP)
        walk.run(builder, builder.urem(packed.steps, I64(_GROUP)), 1)
        for block in range(shape[1]):
            for row, place in enumerate(places[block]):
                total = builder.load(first[block][row])
                for chain in others:
                    total = simd.add(builder, total, builder.load(chain[block][row]))
                simd.store(builder, place, total, REGISTER)
        return I64(0)

    return types.intp(rows, chains, blocks, panel, weight, types.intp, types.intp), generate


def _expand_steps(builder: Any, index: Any, count: Any, controls: Any) -> None:
    """Store the controls of `count` steps; `index` and `controls` are addresses."""

    def put(step: Any, value: Any) -> None:
        place = builder.add(controls, builder.mul(step, I64(REGISTER)))
        simd.store(builder, simd.pointer(builder, place), value, REGISTER)

    def source(step: Any) -> Any:
        return simd.pointer(builder, builder.add(index, builder.mul(step, I64(CHANNELS))))

    whole = builder.sub(count, builder.urem(count, I64(_GROUP)))
    with cgutils.for_range_slice(builder, I64(0), whole, I64(_GROUP), I64, inc=True) as (first, _):
        simd.prefetch(builder, simd.element(builder, source(first), _AHEAD * CHANNELS // REGISTER), 1)
        group = _load_group(builder, source(first))
        for step in range(_GROUP):
            put(builder.add(first, I64(step)), _expand_one(builder, group, step))
    with cgutils.for_range_slice(builder, whole, count, I64(1), I64, inc=True) as (step, _):
        put(step, expand_step(builder, source(step)))


class Chunk(NamedTuple):
    """Scratch for the controls of so many steps, a multiple of 4: (steps, 64) bytes, 64-byte aligned."""

    steps: Any
    controls: Any


@simd.emitter
def expanding_tile(context: Any, rows: Any, panel: Any, weight: Any, chunk: Any, sums: Any, resume: Any) -> Any:
    """:func:`.rows.tile` that expands the packed index itself, some steps at a time.

    Parameters
    ----------
    rows
        Literal int, at least 8.
    panel, weight, chunk
        :class:`Panel`, :class:`Packed` and :class:`Chunk`.
    sums, resume
        As for :func:`.rows.tile`.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        *_, sums, resume = given
        at, packed = fields_of(builder, Panel, given[1]), fields_of(builder, Packed, given[2])
        room = fields_of(builder, Chunk, given[3])
        slots = [cgutils.alloca_once(builder, WORDS) for _ in range(rows.literal_value)]
        places = start_tile(builder, slots, sums, resume)
        with cgutils.for_range_slice(builder, I64(0), packed.steps, room.steps, I64, inc=True) as (first, _):
            left = builder.sub(packed.steps, first)
            count = builder.select(builder.icmp_signed("<", left, room.steps), left, room.steps)
            _expand_steps(builder, builder.add(packed.index, builder.mul(first, I64(CHANNELS))), count, room.controls)
            with cgutils.for_range(builder, count) as loop:
                step = builder.add(first, loop.index)
                place = simd.pointer(builder, builder.add(packed.values, builder.mul(step, I64(REGISTER))))
                simd.prefetch(builder, simd.element(builder, place, _AHEAD), 1)
                values = simd.load(builder, place, WORDS, REGISTER)
                expanded = simd.pointer(builder, builder.add(room.controls, builder.mul(loop.index, I64(REGISTER))))
                control = simd.load(builder, expanded, BYTES, REGISTER)
                octets = builder.add(at.first, builder.mul(step, at.step))
                places_of_rows = [
                    simd.pointer(builder, builder.add(octets, I64(row * STEP))) for row in range(len(slots))
                ]
                multiply_step(builder, slots, places_of_rows, values, control)
        for slot, place in zip(slots, places, strict=True):
            simd.store(builder, place, builder.load(slot), REGISTER)
        return I64(0)

    return types.intp(rows, panel, weight, chunk, types.intp, types.intp), generate
