"""SIMD micro-kernels of the int8 2:4 family for AVX-512 VNNI: index expansion and the register tile.

Each is a Numba intrinsic on addresses (intp) that returns an intp: Numba may drop a call that returns nothing.
"""

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types

from sparse_rt_kernels import simd
from sparse_rt_kernels.n2m4_u8s8.layout import CHANNELS, ROWS, STEP

__all__ = ["expand_index", "multiply_loop", "tile"]

_BYTES = simd.vector(simd.I8, 64)
_WORDS = simd.vector(simd.I32, 16)
#: Bytes of one register: of a step's controls, of a step's values, of one row of accumulators.
_REGISTER = 64
_PANEL_STEP = ROWS * STEP


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


def multiply_loop(builder: Any, chains: list[list[Any]], places: list[Any], turns: Any, expanded: bool) -> None:
    """Run `turns` turns of ``len(chains)`` steps, each step into accumulators of its own.

    `places` are slots that hold the byte pointers of the panel, the values and the controls (or the index, if not
    `expanded`); they are moved on.
    """
    sizes = (_PANEL_STEP, _REGISTER, _REGISTER if expanded else CHANNELS)
    with cgutils.for_range(builder, turns):
        panel, values, controls = (builder.load(place) for place in places)
        for step, accumulators in enumerate(chains):
            weight = simd.load(builder, simd.element(builder, values, step * _REGISTER), _WORDS, _REGISTER)
            place = simd.element(builder, controls, step * sizes[2])
            control = simd.load(builder, place, _BYTES, _REGISTER) if expanded else _expand(builder, place)
            _multiply_step(builder, accumulators, simd.element(builder, panel, step * _PANEL_STEP), weight, control)
        for place, pointer, size in zip(places, (panel, values, controls), sizes, strict=True):
            builder.store(simd.element(builder, pointer, size * len(chains)), place)


@simd.emitter
def tile(
    context: Any,
    rows: Any,
    chains: Any,
    expanded: Any,
    panel: Any,
    values: Any,
    controls: Any,
    steps: Any,
    sums: Any,
    resume: Any,
) -> Any:
    """``sums[r, c] (+)= sum_s sum_j panel[s, r, controls[s, c, j]] * values[s, c, j]`` for 16 channels c.

    Parameters
    ----------
    rows
        Literal int, at most 24: rows r of this tile.
    chains
        Literal int: accumulators a row. One dot product waits for the one before it in the same accumulator, so that
        tiles of few rows need several to fill the pipes.
    expanded
        Literal int: 1 if `controls` are what :func:`expand_index` made; 0 if they are the packed index itself,
        (steps, 16) uint8, to be expanded on the way, which pays where only a row or two use them.
    panel
        (steps, 24, 8) uint8, first of the tile's rows; 8-byte aligned.
    values, controls
        (steps, 16, 4) int8 and uint8, 64-byte aligned.
    sums
        (rows, 16) int32, 64-byte aligned.
    resume
        0 overwrites `sums`, which may then hold anything; otherwise the products are added to it.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        _, _, _, panel, values, controls, steps, sums, resume = given
        count, depth, ready = rows.literal_value, chains.literal_value, bool(expanded.literal_value)
        zero = ir.Constant(_WORDS, None)
        slots = [[cgutils.alloca_once(builder, _WORDS) for _ in range(count)] for _ in range(depth)]
        out = simd.pointer(builder, sums)
        places = [simd.element(builder, out, row * _REGISTER) for row in range(count)]
        for chain in slots:
            for slot in chain:
                builder.store(zero, slot)
        with builder.if_then(builder.icmp_signed("!=", resume, _int(0))):
            for place, slot in zip(places, slots[0], strict=True):
                builder.store(simd.load(builder, place, _WORDS, _REGISTER), slot)

        moving = [
            cgutils.alloca_once_value(builder, simd.pointer(builder, address)) for address in (panel, values, controls)
        ]
        if depth == 1:
            multiply_loop(builder, slots, moving, steps, ready)
        else:
            multiply_loop(builder, slots, moving, builder.udiv(steps, _int(depth)), ready)
            multiply_loop(builder, slots[:1], moving, builder.urem(steps, _int(depth)), ready)
        for row, place in enumerate(places):
            total = builder.load(slots[0][row])
            for chain in slots[1:]:
                total = simd.add(builder, total, builder.load(chain[row]))
            simd.store(builder, place, total, _REGISTER)
        return _int(0)

    return types.intp(rows, chains, expanded, *[types.intp] * 6), generate
