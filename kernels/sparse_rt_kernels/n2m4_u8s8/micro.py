"""SIMD micro-kernels of the int8 2:4 family for AVX-512 VNNI: index expansion and the register tile.

Each is a Numba intrinsic on addresses (intp) that returns an intp: Numba may drop a call that returns nothing.
"""

from typing import Any, NamedTuple

from llvmlite import ir
from numba.core import cgutils, types

from sparse_rt_kernels import simd
from sparse_rt_kernels.n2m4_u8s8.layout import CHANNELS, ROWS, STEP

__all__ = ["Octets", "expand_index", "multiply_loop", "stream_tile", "tile"]

_BYTES = simd.vector(simd.I8, 64)
_WORDS = simd.vector(simd.I32, 16)
#: Bytes of one register: of a step's controls, of a step's values, of one row of accumulators.
_REGISTER = 64
#: Steps whose indexes fill one register.
_GROUP = _REGISTER // CHANNELS
#: Rows whose bytes are picked ahead of the row that is multiplied. One after the other (0, as LLVM would have it) the
#: two compete for the pipe that both can use: 17.1 cycles a step of 24 rows, and 16.6 with 5, all that registers hold.
_AHEAD = 5


def _int(value: int) -> Any:
    return ir.Constant(simd.I64, value)


def _expand(builder: Any, index: Any) -> Any:
    """Return the controls of one step from the byte pointer to its 16 index bytes."""
    # A 64-bit word holds two zero-extended index bytes, at bits 0 and 32.
    shifts = simd.constant(simd.I8, [0, 2, 4, 6, 32, 34, 36, 38] * 8)
    packed = simd.widen_byte(builder, simd.load(builder, index, simd.vector(simd.I8, CHANNELS), CHANNELS))
    bits = simd.multishift(builder, shifts, simd.bitcast(builder, packed, _BYTES))
    bits = simd.bitwise_and(builder, bits, simd.constant(simd.I8, [3] * 64))
    return simd.add(builder, bits, simd.constant(simd.I8, [0, 1, 4, 5] * 16))


def _load_group(builder: Any, index: Any) -> Any:
    """Return the 64 index bytes of 4 steps, each channel's 4 bytes side by side: one byte shuffle for 4 steps."""
    indexes = simd.load(builder, index, _BYTES)
    by_channel = [CHANNELS * step + channel for channel in range(CHANNELS) for step in range(_GROUP)]
    return simd.shuffle(builder, indexes, indexes, by_channel)


def _expand_one(builder: Any, group: Any, step: int) -> Any:
    """Return the controls of one step of a group: two channels share the 64-bit word that shifts select from."""
    shifts = [first + 8 * step + slot for first in (0, 32) for slot in (0, 2, 4, 6)] * 8
    bits = simd.multishift(builder, simd.constant(simd.I8, shifts), group)
    bits = simd.bitwise_and(builder, bits, simd.constant(simd.I8, [3] * 64))
    return simd.add(builder, bits, simd.constant(simd.I8, [0, 1, 4, 5] * 16))


@simd.emitter
def expand_index(context: Any, index: Any, steps: Any, controls: Any) -> Any:
    """``controls[s, c, j] = ((index[s, c] >> 2 j) & 3) + (0, 1, 4, 5)[j]``: which of a step's 8 bytes each value meets.

    Parameters
    ----------
    index
        (steps, 16) uint8.
    controls
        (steps, 16, 4) uint8, 64-byte aligned: operands of vpshufb.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        index, steps, controls = given
        with cgutils.for_range(builder, steps) as loop:
            source = simd.pointer(builder, builder.add(index, builder.mul(loop.index, _int(CHANNELS))))
            place = simd.pointer(builder, builder.add(controls, builder.mul(loop.index, _int(_REGISTER))))
            simd.store(builder, place, _expand(builder, source), _REGISTER)
        return _int(0)

    return types.intp(types.intp, types.intp, types.intp), generate


def _multiply_blocks(
    builder: Any, accumulators: list[list[Any]], panel: Any, values: list[Any], controls: list[Any]
) -> None:
    """Add one step's products of several blocks of channels, which share the broadcasts: one dot product a row."""
    for row in range(len(accumulators[0])):
        octet = simd.load(builder, simd.element(builder, panel, row * STEP), simd.I64, STEP)
        lanes = simd.bitcast(builder, simd.broadcast(builder, octet, 8), _BYTES)
        for slots, weight, control in zip(accumulators, values, controls, strict=True):
            chosen = simd.bitcast(builder, simd.shuffle_bytes(builder, lanes, control), _WORDS)
            builder.store(simd.dot_u8s8(builder, builder.load(slots[row]), chosen, weight), slots[row])


def _multiply_step(builder: Any, accumulators: list[Any], octets: list[Any], values: Any, control: Any) -> None:
    """Add one step's products to every row's accumulator: broadcast 8 bytes, pick 4 for each channel, multiply."""
    waiting: list[tuple[Any, Any]] = []

    def multiply() -> None:
        slot, chosen = waiting.pop(0)
        chosen = simd.bitcast(builder, simd.in_order(builder, chosen), _WORDS)
        total = simd.dot_u8s8(builder, builder.load(slot), chosen, values)
        builder.store(simd.in_order(builder, total), slot)

    for place, slot in zip(octets, accumulators, strict=True):
        lanes = simd.bitcast(builder, simd.broadcast(builder, simd.load(builder, place, simd.I64), 8), _BYTES)
        waiting.append((slot, simd.in_order(builder, simd.shuffle_bytes(builder, lanes, control))))
        if len(waiting) > _AHEAD:
            multiply()
    while waiting:
        multiply()


class Octets(NamedTuple):
    """Where a tile's activations lie, as IR integers: 8 bytes of row r and step s at ``first + r * row + s * step``."""

    first: Any
    row: Any
    step: Any


def multiply_loop(
    builder: Any, accumulators: list[Any], octets: Octets, values: Any, controls: Any, steps: Any
) -> None:
    """Add `steps` steps of the rows at `octets`; `values` and `controls` are addresses."""
    # Every third row has a pointer of its own, which the two after it are 1 and 2 strides away from: an address of
    # one instruction each. Marked, or LLVM would keep 24 offsets, more than there are registers.
    firsts = [
        cgutils.alloca_once_value(builder, builder.add(octets.first, builder.mul(octets.row, _int(row))))
        for row in range(0, len(accumulators), 3)
    ]
    moving = [cgutils.alloca_once_value(builder, address) for address in (values, controls)]
    with cgutils.for_range(builder, steps):
        thirds = [simd.in_order(builder, builder.load(place)) for place in firsts]
        value, control = (builder.load(place) for place in moving)
        weight = simd.load(builder, simd.pointer(builder, value), _WORDS, _REGISTER)
        chosen = simd.load(builder, simd.pointer(builder, control), _BYTES, _REGISTER)
        places = [
            simd.pointer(builder, builder.add(thirds[row // 3], builder.mul(octets.row, _int(row % 3))))
            for row in range(len(accumulators))
        ]
        _multiply_step(builder, accumulators, places, weight, chosen)
        for place, address in zip(firsts, thirds, strict=True):
            builder.store(builder.add(address, octets.step), place)
        for place, address in zip(moving, (value, control), strict=True):
            builder.store(builder.add(address, _int(_REGISTER)), place)


def _start(builder: Any, slots: list[Any], sums: Any, resume: Any) -> list[Any]:
    """Set accumulators to zero, or to the sums so far; return the places of their sums."""
    out = simd.pointer(builder, sums)
    places = [simd.element(builder, out, row * _REGISTER) for row in range(len(slots))]
    for slot in slots:
        builder.store(ir.Constant(_WORDS, None), slot)
    with builder.if_then(builder.icmp_signed("!=", resume, _int(0))):
        for place, slot in zip(places, slots, strict=True):
            builder.store(simd.load(builder, place, _WORDS, _REGISTER), slot)
    return places


@simd.emitter
def tile(
    context: Any,
    rows: Any,
    x: Any,
    row_stride: Any,
    step_stride: Any,
    values: Any,
    controls: Any,
    steps: Any,
    sums: Any,
    resume: Any,
) -> Any:
    """``sums[r, c] (+)= sum_s sum_j x[r, s, controls[s, c, j]] * values[s, c, j]``: up to 24 rows r, 16 channels c.

    Parameters
    ----------
    rows
        Literal int, at least 8: fewer rows would wait for their own dot products.
    x, row_stride, step_stride
        (rows, steps, 8) uint8: its address, and bytes from row to row and from step to step.
    values, controls
        (steps, 16, 4) int8 and uint8, 64-byte aligned; `controls` are what :func:`expand_index` made.
    sums
        (24, 16) int32, 64-byte aligned, of which `rows` rows are written.
    resume
        0 overwrites `sums`, which may then hold anything; otherwise the products are added to it.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        _, x, row_stride, step_stride, values, controls, steps, sums, resume = given
        slots = [cgutils.alloca_once(builder, _WORDS) for _ in range(rows.literal_value)]
        places = _start(builder, slots, sums, resume)
        multiply_loop(builder, slots, Octets(x, row_stride, step_stride), values, controls, steps)
        for slot, place in zip(slots, places, strict=True):
            simd.store(builder, place, builder.load(slot), _REGISTER)
        return _int(0)

    return types.intp(rows, *[types.intp] * 8), generate


class _Stream:
    """Pointers into panel, values and index that move on, and the accumulators [chain][block][row]."""

    def __init__(self, builder: Any, shape: tuple[int, int, int], pointers: list[Any], strides: list[Any]) -> None:
        chains, blocks, rows = shape
        self.accumulators = [
            [[cgutils.alloca_once(builder, _WORDS) for _ in range(rows)] for _ in range(blocks)] for _ in range(chains)
        ]
        self._places = [cgutils.alloca_once_value(builder, simd.pointer(builder, each)) for each in pointers]
        self._panel_step, self._values_block, self._index_block = strides

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
                expanded = [[_expand(builder, each) for each in indexes]]
            for step, controls in enumerate(expanded):
                loaded = [
                    simd.load(builder, simd.element(builder, each, step * _REGISTER), _WORDS, _REGISTER)
                    for each in weights
                ]
                accumulators = self.accumulators[step % len(self.accumulators)]
                _multiply_blocks(builder, accumulators, panel, loaded, controls)
                panel = simd.element(builder, panel, self._panel_step)
            builder.store(panel, self._places[0])
            builder.store(simd.element(builder, values, unrolled * _REGISTER), self._places[1])
            builder.store(simd.element(builder, index, unrolled * CHANNELS), self._places[2])


@simd.emitter
def stream_tile(
    context: Any,
    rows: Any,
    chains: Any,
    blocks: Any,
    panel: Any,
    panel_step: Any,
    values: Any,
    values_block: Any,
    index: Any,
    index_block: Any,
    steps: Any,
    sums: Any,
    resume: Any,
) -> Any:
    """:func:`tile` for few rows: the packed index is expanded in registers, without a way through L1.

    Parameters
    ----------
    rows
        Literal int, at most 16: rows r of this tile.
    chains
        Literal int, a divisor of 4: accumulators a row. One dot product waits for the one before it in the same
        accumulator, so that tiles of few rows need several to fill the pipes.
    blocks
        Literal int: blocks of 16 channels, 1 or 2. Two share the broadcasts, which bound tiles of few rows.
    panel, panel_step
        First byte of the tile's first row, and bytes from step to step.
    values, index
        (steps, 16, 4) int8 and (steps, 16) uint8, the packed index; 64- and 16-byte aligned.
    values_block, index_block
        Bytes from the first block to the second.
    sums
        (blocks, 24, 16) int32, 64-byte aligned, of which `rows` rows are written.
    steps, resume
        As for :func:`tile`.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        *_, panel, panel_step, values, values_block, index, index_block, steps, sums, resume = given
        shape = (chains.literal_value, blocks.literal_value, rows.literal_value)
        stream = _Stream(builder, shape, [panel, values, index], [panel_step, values_block, index_block])
        first, *others = stream.accumulators
        places = []
        for block, slots in enumerate(first):
            places.append(_start(builder, slots, builder.add(sums, _int(block * ROWS * _REGISTER)), resume))
        for slot in (slot for chain in others for slots in chain for slot in slots):
            builder.store(ir.Constant(_WORDS, None), slot)
        stream.run(builder, builder.udiv(steps, _int(_GROUP)), _GROUP)
        stream.run(builder, builder.urem(steps, _int(_GROUP)), 1)
        for block in range(shape[1]):
            for row, place in enumerate(places[block]):
                total = builder.load(first[block][row])
                for chain in others:
                    total = simd.add(builder, total, builder.load(chain[block][row]))
                simd.store(builder, place, total, _REGISTER)
        return _int(0)

    return types.intp(rows, chains, blocks, *[types.intp] * 9), generate
