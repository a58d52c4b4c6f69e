"""SIMD micro-kernels of the int8 2:4 family for AVX-512 VNNI: index expansion and the register tile.

Each is a Numba intrinsic on addresses (intp) that returns an intp: Numba may drop a call that returns nothing.
"""

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types

from sparse_rt_kernels import simd
from sparse_rt_kernels.n2m4_u8s8.layout import CHANNELS, ROWS, STEP

__all__ = ["expand_index", "multiply_loop", "stream_tile", "tile"]

_BYTES = simd.vector(simd.I8, 64)
_WORDS = simd.vector(simd.I32, 16)
#: Bytes of one register: of a step's controls, of a step's values, of one row of accumulators.
_REGISTER = 64
_PANEL_STEP = ROWS * STEP
#: Steps whose indexes fill one register.
_GROUP = _REGISTER // CHANNELS
#: How far ahead a stream of weights is fetched: what arrives while a core waits for memory some 100 ns.
_AHEAD = 2048


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


def _expand_group(builder: Any, index: Any) -> list[Any]:
    """Return the controls of 4 steps from the byte pointer to their 64 index bytes: one byte shuffle for all."""
    indexes = simd.load(builder, index, _BYTES)
    # Each channel's 4 bytes side by side, so that two channels share the 64-bit word that a shift selects from.
    by_channel = [CHANNELS * step + channel for channel in range(CHANNELS) for step in range(_GROUP)]
    indexes = simd.shuffle(builder, indexes, indexes, by_channel)
    controls = []
    for step in range(_GROUP):
        shifts = [first + 8 * step + slot for first in (0, 32) for slot in (0, 2, 4, 6)] * 8
        bits = simd.multishift(builder, simd.constant(simd.I8, shifts), indexes)
        bits = simd.bitwise_and(builder, bits, simd.constant(simd.I8, [3] * 64))
        controls.append(simd.add(builder, bits, simd.constant(simd.I8, [0, 1, 4, 5] * 16)))
    return controls


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


def _multiply_step(builder: Any, accumulators: list[Any], panel: Any, values: Any, control: Any) -> None:
    """Add one step's products to every row's accumulator: broadcast 8 bytes, pick 4 for each channel, multiply."""
    for row, slot in enumerate(accumulators):
        octet = simd.load(builder, simd.element(builder, panel, row * STEP), simd.I64, STEP)
        lanes = simd.bitcast(builder, simd.broadcast(builder, octet, 8), _BYTES)
        chosen = simd.bitcast(builder, simd.shuffle_bytes(builder, lanes, control), _WORDS)
        builder.store(simd.dot_u8s8(builder, builder.load(slot), chosen, values), slot)


def multiply_loop(builder: Any, accumulators: list[Any], places: list[Any], steps: Any) -> None:
    """Add `steps` steps; `places` are slots of the byte pointers of panel, values and controls, which move on."""
    with cgutils.for_range(builder, steps):
        panel, values, controls = (builder.load(place) for place in places)
        weight = simd.load(builder, values, _WORDS, _REGISTER)
        control = simd.load(builder, controls, _BYTES, _REGISTER)
        _multiply_step(builder, accumulators, panel, weight, control)
        for place, pointer, size in zip(
            places, (panel, values, controls), (_PANEL_STEP, _REGISTER, _REGISTER), strict=True
        ):
            builder.store(simd.element(builder, pointer, size), place)


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
def tile(context: Any, panel: Any, values: Any, controls: Any, steps: Any, sums: Any, resume: Any) -> Any:
    """``sums[r, c] (+)= sum_s sum_j panel[s, r, controls[s, c, j]] * values[s, c, j]``: 24 rows r, 16 channels c.

    Parameters
    ----------
    panel
        (steps, 24, 8) uint8; 8-byte aligned.
    values, controls
        (steps, 16, 4) int8 and uint8, 64-byte aligned; `controls` are what :func:`expand_index` made.
    sums
        (24, 16) int32, 64-byte aligned.
    resume
        0 overwrites `sums`, which may then hold anything; otherwise the products are added to it.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        panel, values, controls, steps, sums, resume = given
        slots = [cgutils.alloca_once(builder, _WORDS) for _ in range(ROWS)]
        places = _start(builder, slots, sums, resume)
        moving = [
            cgutils.alloca_once_value(builder, simd.pointer(builder, address)) for address in (panel, values, controls)
        ]
        multiply_loop(builder, slots, moving, steps)
        for slot, place in zip(slots, places, strict=True):
            simd.store(builder, place, builder.load(slot), _REGISTER)
        return _int(0)

    return types.intp(*[types.intp] * 6), generate


def _stream_loop(builder: Any, chains: list[list[Any]], places: list[Any], panel_step: Any, turns: Any) -> None:
    """Run `turns` turns of 4 steps, which take turns on the chains of accumulators."""
    with cgutils.for_range(builder, turns):
        panel, values, index = (builder.load(place) for place in places)
        for number, control in enumerate(_expand_group(builder, index)):
            place = simd.element(builder, values, number * _REGISTER)
            simd.prefetch(builder, simd.element(builder, place, _AHEAD))
            weight = simd.load(builder, place, _WORDS, _REGISTER)
            _multiply_step(builder, chains[number % len(chains)], panel, weight, control)
            panel = simd.element(builder, panel, panel_step)
        simd.prefetch(builder, simd.element(builder, index, _AHEAD))
        builder.store(panel, places[0])
        builder.store(simd.element(builder, values, _GROUP * _REGISTER), places[1])
        builder.store(simd.element(builder, index, _GROUP * CHANNELS), places[2])


def _stream_rest(builder: Any, accumulators: list[Any], places: list[Any], panel_step: Any, steps: Any) -> None:
    """Run single steps."""
    with cgutils.for_range(builder, steps):
        panel, values, index = (builder.load(place) for place in places)
        weight = simd.load(builder, values, _WORDS, _REGISTER)
        _multiply_step(builder, accumulators, panel, weight, _expand(builder, index))
        builder.store(simd.element(builder, panel, panel_step), places[0])
        builder.store(simd.element(builder, values, _REGISTER), places[1])
        builder.store(simd.element(builder, index, CHANNELS), places[2])


@simd.emitter
def stream_tile(
    context: Any,
    rows: Any,
    chains: Any,
    panel: Any,
    panel_step: Any,
    values: Any,
    index: Any,
    steps: Any,
    sums: Any,
    resume: Any,
) -> Any:
    """:func:`tile` for few rows: the packed index is expanded in registers, and the weight is fetched ahead.

    Parameters
    ----------
    rows
        Literal int, at most 16: rows r of this tile.
    chains
        Literal int, a divisor of 4: accumulators a row. One dot product waits for the one before it in the same
        accumulator, so that tiles of few rows need several to fill the pipes.
    panel, panel_step
        First byte of the tile's first row, and bytes from step to step.
    index
        (steps, 16) uint8, the packed index.
    values, steps, sums, resume
        As for :func:`tile`, `sums` of `rows` rows.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        _, _, panel, panel_step, values, index, steps, sums, resume = given
        count, depth = rows.literal_value, chains.literal_value
        slots = [[cgutils.alloca_once(builder, _WORDS) for _ in range(count)] for _ in range(depth)]
        places = _start(builder, slots[0], sums, resume)
        for slot in (slot for chain in slots[1:] for slot in chain):
            builder.store(ir.Constant(_WORDS, None), slot)
        moving = [
            cgutils.alloca_once_value(builder, simd.pointer(builder, address)) for address in (panel, values, index)
        ]
        _stream_loop(builder, slots, moving, panel_step, builder.udiv(steps, _int(_GROUP)))
        _stream_rest(builder, slots[0], moving, panel_step, builder.urem(steps, _int(_GROUP)))
        for row, place in enumerate(places):
            total = builder.load(slots[0][row])
            for chain in slots[1:]:
                total = simd.add(builder, total, builder.load(chain[row]))
            simd.store(builder, place, total, _REGISTER)
        return _int(0)

    return types.intp(rows, chains, *[types.intp] * 7), generate
