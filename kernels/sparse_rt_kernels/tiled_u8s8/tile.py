"""SIMD micro-kernels of the int8 tiles of any vector width, 2:4 and dense: operand expansion and the register tile.

Each is a Numba intrinsic on addresses (intp) that returns an intp: Numba may drop a call that returns nothing.
"""

from typing import Any

from llvmlite import ir

from sparse_rt_kernels.jit.compiler import cgutils, types
from sparse_rt_kernels.jit.llvm import I8, I16, I32, I64
from sparse_rt_kernels.product.u8s8.sizes import CHANNELS
from sparse_rt_kernels.tiled_u8s8.shape import Shape
from sparse_rt_kernels.vectors import simd

__all__ = ["expand", "tile", "widen"]


def _at(builder: Any, base: Any, index: Any, size: int) -> Any:
    """Return the byte pointer `index` items of `size` bytes after the address `base`."""
    return simd.pointer(builder, builder.add(base, builder.mul(index, I64(size))))


def _shape(*literals: Any) -> Shape:
    return Shape(*(literal.literal_value for literal in literals))


# --- operands --------------------------------------------------------------------------------------------------------


def _pair(builder: Any, quads: Any, pair: int) -> Any:
    """Return bytes 2 * pair and 2 * pair + 1 of each 4 as int16."""
    lanes = quads.type.count
    of_bytes = simd.bitcast(builder, quads, simd.vector(I8, 4 * lanes))
    chosen = [4 * lane + 2 * pair + part for lane in range(lanes) for part in (0, 1)]
    half = simd.shuffle(builder, of_bytes, of_bytes, chosen)
    return builder.sext(half, simd.vector(I16, 2 * lanes))


def _spread(builder: Any, bits: Any, moves: list[tuple[int, int]], base: int) -> Any:
    """Return, in each lane, 2-bit fields moved by `moves` (where from, where to), plus the constant `base`."""
    lanes = bits.type.count
    total = simd.constant(I32, [base] * lanes)
    for start, end in moves:
        field = simd.bitwise_and(builder, bits, simd.constant(I32, [3 << start] * lanes))
        shift = simd.constant(I32, [abs(end - start)] * lanes)
        total = simd.add(builder, total, builder.shl(field, shift) if end >= start else builder.lshr(field, shift))
    return total


def _controls(builder: Any, shape: Shape, bits: Any) -> list[Any]:
    """Return the vpshufb controls of each turn of a step from the index bytes, one a lane."""
    if shape.has_dot:
        # Four bytes of the eight: (0, 1, 4, 5) + the 2-bit index.
        return [_spread(builder, bits, [(2 * j, 8 * j) for j in range(4)], 0x05040100)]
    # Two bytes of four, each followed by a zero (top bit set), which widens it to 16 bits on the way.
    return [_spread(builder, bits, [(4 * group, 0), (4 * group + 2, 16)], 0x80018000 - (1 << 32)) for group in range(2)]


def _values(builder: Any, shape: Shape, quads: list[Any]) -> list[Any]:
    """Return the values of each turn of a step: bytes for vpdpbusd, int16 pairs for vpmaddwd."""
    if shape.has_dot:
        return quads
    return [_pair(builder, quad, pair) for quad in quads for pair in (0, 1)]


@simd.emitter
def expand(
    context: Any,
    lanes: Any,
    has_dot: Any,
    is_sparse: Any,
    values: Any,
    index: Any,
    steps: Any,
    operands: Any,
) -> Any:
    """Lay out what the tile reads in each step, for one block of 16 channels.

    Parameters
    ----------
    lanes, has_dot, is_sparse
        Literal ints: a :class:`Shape`.
    values, index
        (steps, quads, 16, 4) int8 and (steps, 16) uint8; see :mod:`.weight`.
    operands
        (16 / lanes, steps, turns, 1 or 2) registers, aligned to one: values of a turn, then its controls if 2:4.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        *_, values, index, steps, operands = given
        shape = _shape(lanes, has_dot, is_sparse)
        width, quads = shape.lanes, 1 if shape.is_sparse else 2
        words = simd.vector(I32, width)
        with cgutils.for_range(builder, steps) as loop:
            source = _at(builder, values, loop.index, 4 * CHANNELS * quads)
            for half in range(CHANNELS // width):
                stored = [
                    simd.load(builder, simd.element(builder, source, 4 * (CHANNELS * quad + width * half)), words, 4)
                    for quad in range(quads)
                ]
                made = [[value] for value in _values(builder, shape, stored)]
                if shape.is_sparse:
                    place = simd.element(builder, _at(builder, index, loop.index, CHANNELS), width * half)
                    bits = simd.widen_byte(builder, simd.load(builder, place, simd.vector(I8, width)))
                    for turn, control in zip(made, _controls(builder, shape, bits), strict=True):
                        turn.append(control)
                step = builder.add(loop.index, builder.mul(steps, I64(half)))
                out = _at(builder, operands, step, shape.operand_bytes)
                for number, operand in enumerate(operand for turn in made for operand in turn):
                    simd.store(builder, simd.element(builder, out, number * 4 * width), operand, 4 * width)
        return I64(0)

    return types.intp(lanes, has_dot, is_sparse, *[types.intp] * 4), generate


@simd.emitter
def widen(context: Any, source: Any, count: Any, out: Any) -> Any:
    """``out[i] = source[i]`` for `count` bytes, a multiple of 64, that become uint16; both are 64-byte aligned."""

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        source, count, out = given
        with cgutils.for_range(builder, builder.udiv(count, I64(64))) as loop:
            for part in range(4):
                place = simd.element(builder, _at(builder, source, loop.index, 64), part * 16)
                value = simd.load(builder, place, simd.vector(I8, 16), 16)
                target_ = simd.element(builder, _at(builder, out, loop.index, 128), part * 32)
                simd.store(builder, target_, builder.zext(value, simd.vector(I16, 16)), 32)
        return I64(0)

    return types.intp(*[types.intp] * 3), generate


# --- the register tile -----------------------------------------------------------------------------------------------


def _multiply_add(builder: Any, shape: Shape, total: Any, x: Any, operands: list[Any]) -> Any:
    """Return `total` plus one turn's products of a broadcast piece of a row."""
    words, of_bytes = total.type, simd.vector(I8, 4 * shape.lanes)
    if shape.is_sparse:
        x = simd.shuffle_bytes(builder, simd.bitcast(builder, x, of_bytes), operands[1])
    if shape.has_dot:
        return simd.dot_u8s8(builder, total, simd.bitcast(builder, x, words), operands[0])
    pairs = simd.vector(I16, 2 * shape.lanes)
    product = simd.dot_s16(builder, simd.bitcast(builder, x, pairs), simd.bitcast(builder, operands[0], pairs))
    return simd.add(builder, total, product)


def _multiply_step(builder: Any, shape: Shape, slots: list[Any], panel: Any, operands: Any) -> None:
    """Add one step's products to every row's accumulator."""
    register = 4 * shape.lanes
    words, of_bytes = simd.vector(I32, shape.lanes), simd.vector(I8, register)
    item = I64 if shape.turn_bytes == 8 else I32
    for turn in range(shape.turns):
        first = turn * (1 + shape.is_sparse)
        held = [simd.load(builder, simd.element(builder, operands, first * register), words, register)]
        if shape.is_sparse:
            held.append(simd.load(builder, simd.element(builder, operands, (first + 1) * register), of_bytes, register))
        for row, slot in enumerate(slots):
            place = simd.element(builder, panel, row * shape.row_bytes + turn * shape.turn_bytes)
            piece = simd.load(builder, place, item, shape.turn_bytes)
            x = simd.broadcast(builder, piece, register // shape.turn_bytes)
            builder.store(_multiply_add(builder, shape, builder.load(slot), x, held), slot)


@simd.emitter
def tile(
    context: Any,
    lanes: Any,
    has_dot: Any,
    is_sparse: Any,
    rows: Any,
    panel: Any,
    operands: Any,
    steps: Any,
    sums: Any,
    resume: Any,
) -> Any:
    """``sums[r, c] (+)= sum_k x[r, k] * w[c, k]`` for as many channels c as a register has lanes.

    Parameters
    ----------
    lanes, has_dot, is_sparse
        Literal ints: a :class:`Shape`.
    rows
        Literal int: rows r of this tile.
    panel
        (steps, 24, 8) uint8, or uint16 if the shape is widened; first of the tile's rows.
    operands
        Of :func:`expand`, for these channels.
    sums
        (rows, 16) int32, first of these channels.
    resume
        0 overwrites `sums`, which may then hold anything; otherwise the products are added to it.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        *_, panel, operands, steps, sums, resume = given
        shape = _shape(lanes, has_dot, is_sparse)
        words, register = simd.vector(I32, shape.lanes), 4 * shape.lanes
        slots = [cgutils.alloca_once(builder, words) for _ in range(rows.literal_value)]
        out = simd.pointer(builder, sums)
        places = [simd.element(builder, out, row * 4 * CHANNELS) for row in range(len(slots))]
        for slot in slots:
            builder.store(ir.Constant(words, None), slot)
        with builder.if_then(builder.icmp_signed("!=", resume, I64(0))):
            for place, slot in zip(places, slots, strict=True):
                builder.store(simd.load(builder, place, words, register), slot)
        panel_at = cgutils.alloca_once_value(builder, simd.pointer(builder, panel))
        operands_at = cgutils.alloca_once_value(builder, simd.pointer(builder, operands))
        with cgutils.for_range(builder, steps):
            here, read = builder.load(panel_at), builder.load(operands_at)
            _multiply_step(builder, shape, slots, here, read)
            builder.store(simd.element(builder, here, shape.step_bytes), panel_at)
            builder.store(simd.element(builder, read, shape.operand_bytes), operands_at)
        for place, slot in zip(places, slots, strict=True):
            simd.store(builder, place, builder.load(slot), register)
        return I64(0)

    return types.intp(lanes, has_dot, is_sparse, rows, *[types.intp] * 5), generate
