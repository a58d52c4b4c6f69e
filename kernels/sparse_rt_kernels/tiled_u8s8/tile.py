"""SIMD micro-kernels of the int8 tiles of any vector width: operand expansion and the register tile.

Each is a Numba intrinsic on addresses (intp) that returns an intp: Numba may drop a call that returns nothing.
"""

from typing import Any, NamedTuple

from llvmlite import ir

from sparse_rt_kernels.jit.compiler import cgutils, types
from sparse_rt_kernels.jit.llvm import I8, I16, I32, I64
from sparse_rt_kernels.product.u8s8.sizes import CHANNELS
from sparse_rt_kernels.tiled_u8s8.blocking import Shape
from sparse_rt_kernels.vectors import simd
from sparse_rt_kernels.vectors.records import fields_of

__all__ = ["Factors", "expand", "tile", "widen"]


def _shape(*literals: Any) -> Shape:
    return Shape(*(literal.literal_value for literal in literals))


def _pair(builder: Any, quads: Any, pair: int) -> Any:
    """Return bytes 2 * pair and 2 * pair + 1 of each 4 as int16."""
    lanes = quads.type.count
    of_bytes = simd.bitcast(builder, quads, simd.vector(I8, 4 * lanes))
    chosen = [4 * lane + 2 * pair + part for lane in range(lanes) for part in (0, 1)]
    half = simd.shuffle(builder, of_bytes, of_bytes, chosen)
    return builder.sext(half, simd.vector(I16, 2 * lanes))


def _values(builder: Any, shape: Shape, quads: list[Any]) -> list[Any]:
    """Return the values of each turn of a step: bytes for vpdpbusd, int16 pairs for vpmaddwd."""
    if shape.has_dot:
        return quads
    return [_pair(builder, quad, pair) for quad in quads for pair in (0, 1)]


@simd.emitter
def expand(
    context: Any, lanes: Any, has_dot: Any, strategy: Any, values: Any, index: Any, steps: Any, operands: Any
) -> Any:
    """Lay out what the tile reads in each step, for one block of 16 channels.

    Parameters
    ----------
    lanes, has_dot, strategy
        Literal ints: a :class:`.blocking.Shape`.
    values, index
        (steps, quads, 16, 4) int8 and (steps, 16) uint8, if there is one; see :class:`.weight.strategy.Strategy`.
    operands
        (16 / lanes, steps, turns, 1 or 2) registers, aligned to one: values of a turn, then its controls.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        *_, values, index, steps, operands = given
        shape = _shape(lanes, has_dot, strategy)
        width, quads, register = shape.lanes, shape.weight.quads, shape.register_bytes
        words = simd.vector(I32, width)
        with cgutils.for_range(builder, steps) as loop:
            source = simd.item(builder, values, loop.index, 4 * CHANNELS * quads)
            for half in range(CHANNELS // width):
                stored = [
                    simd.load(builder, simd.element(builder, source, 4 * (CHANNELS * quad + width * half)), words, 4)
                    for quad in range(quads)
                ]
                made = _values(builder, shape, stored)
                place = simd.element(builder, simd.item(builder, index, loop.index, CHANNELS), width * half)
                controls = shape.weight.controls(builder, width, shape.has_dot, place)
                step = builder.add(loop.index, builder.mul(steps, I64(half)))
                out = simd.item(builder, operands, step, shape.operand_bytes)
                registers = [each for turn in zip(made, controls, strict=True) for each in (turn[0], *turn[1])]
                for number, operand in enumerate(registers):
                    simd.store(builder, simd.element(builder, out, number * register), operand, register)
        return I64(0)

    return types.intp(lanes, has_dot, strategy, *[types.intp] * 4), generate


@simd.emitter
def widen(context: Any, source: Any, count: Any, out: Any) -> Any:
    """``out[i] = source[i]`` for `count` bytes, a multiple of 64, that become uint16; both are 64-byte aligned."""

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        source, count, out = given
        with cgutils.for_range(builder, builder.udiv(count, I64(64))) as loop:
            for part in range(4):
                place = simd.element(builder, simd.item(builder, source, loop.index, 64), part * 16)
                value = simd.load(builder, place, simd.vector(I8, 16), 16)
                target_ = simd.element(builder, simd.item(builder, out, loop.index, 128), part * 32)
                simd.store(builder, target_, builder.zext(value, simd.vector(I16, 16)), 32)
        return I64(0)

    return types.intp(*[types.intp] * 3), generate


def _multiply_add(builder: Any, shape: Shape, total: Any, x: Any, values: Any) -> Any:
    """Return `total` plus one turn's products of what each channel takes of a broadcast piece of a row."""
    if shape.has_dot:
        return simd.dot_u8s8(builder, total, simd.bitcast(builder, x, total.type), values)
    pairs = simd.vector(I16, 2 * shape.lanes)
    product = simd.dot_s16(builder, simd.bitcast(builder, x, pairs), simd.bitcast(builder, values, pairs))
    return simd.add(builder, total, product)


def _multiply_step(builder: Any, shape: Shape, slots: list[Any], panel: Any, operands: Any) -> None:
    """Add one step's products to every row's accumulator."""
    register, registers = shape.register_bytes, shape.weight.registers
    words, of_bytes = simd.vector(I32, shape.lanes), simd.vector(I8, register)
    item = I64 if shape.turn_bytes == 8 else I32
    for turn in range(shape.turns):
        places = [simd.element(builder, operands, (turn * registers + each) * register) for each in range(registers)]
        values = simd.load(builder, places[0], words, register)
        controls = [simd.load(builder, place, of_bytes, register) for place in places[1:]]
        for row, slot in enumerate(slots):
            place = simd.element(builder, panel, row * shape.row_bytes + turn * shape.turn_bytes)
            piece = simd.load(builder, place, item, shape.turn_bytes)
            x = simd.broadcast(builder, piece, register // shape.turn_bytes)
            x = shape.weight.choose(builder, x, controls)
            builder.store(_multiply_add(builder, shape, builder.load(slot), x, values), slot)


class Factors(NamedTuple):
    """What a tile multiplies.

    Attributes
    ----------
    panel
        (steps, 24, 8) uint8, or uint16 if the shape is widened; first of the tile's rows.
    expanded
        What :func:`expand` made, for these channels.
    steps
        How many steps.
    """

    panel: Any
    expanded: Any
    steps: Any


@simd.emitter
def tile(context: Any, lanes: Any, has_dot: Any, strategy: Any, rows: Any, factors: Any, sums: Any, resume: Any) -> Any:
    """``sums[r, c] (+)= sum_k x[r, k] * w[c, k]`` for as many channels c as a register has lanes.

    Parameters
    ----------
    lanes, has_dot, strategy
        Literal ints: a :class:`.blocking.Shape`.
    rows
        Literal int: rows r of this tile.
    factors
        :class:`Factors`.
    sums
        (rows, 16) int32, first of these channels.
    resume
        0 overwrites `sums`, which may then hold anything; otherwise the products are added to it.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        *_, record, sums, resume = given
        of = fields_of(builder, Factors, record)
        shape = _shape(lanes, has_dot, strategy)
        words, register = simd.vector(I32, shape.lanes), shape.register_bytes
        slots = [cgutils.alloca_once(builder, words) for _ in range(rows.literal_value)]
        out = simd.pointer(builder, sums)
        places = [simd.element(builder, out, row * 4 * CHANNELS) for row in range(len(slots))]
        for slot in slots:
            builder.store(ir.Constant(words, None), slot)
        with builder.if_then(builder.icmp_signed("!=", resume, I64(0))):
            for place, slot in zip(places, slots, strict=True):
                builder.store(simd.load(builder, place, words, register), slot)
        panel_at = cgutils.alloca_once_value(builder, simd.pointer(builder, of.panel))
        operands_at = cgutils.alloca_once_value(builder, simd.pointer(builder, of.expanded))
        with cgutils.for_range(builder, of.steps):
            here, read = builder.load(panel_at), builder.load(operands_at)
            _multiply_step(builder, shape, slots, here, read)
            builder.store(simd.element(builder, here, shape.step_bytes), panel_at)
            builder.store(simd.element(builder, read, shape.operand_bytes), operands_at)
        for place, slot in zip(places, slots, strict=True):
            simd.store(builder, place, builder.load(slot), register)
        return I64(0)

    return types.intp(lanes, has_dot, strategy, rows, factors, types.intp, types.intp), generate
