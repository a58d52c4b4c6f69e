"""SIMD micro-kernels of the int8 2:4 family for AVX-512 VNNI: index expansion and the register tile.

Each is a Numba intrinsic on addresses (intp) that returns an intp: Numba may drop a call that returns nothing.
"""

from typing import Any, NamedTuple

from llvmlite import ir

from sparse_rt_kernels.jit.compiler import cgutils, types
from sparse_rt_kernels.jit.llvm import I8, I64
from sparse_rt_kernels.product.u8s8.sizes import CHANNELS
from sparse_rt_kernels.vectors import simd
from sparse_rt_kernels.vectors.records import fields_of
from sparse_rt_kernels.vectors.registers import BYTES, REGISTER, WORDS

__all__ = ["Expanded", "Octets", "expand_index", "expand_step", "multiply_loop", "multiply_step", "start_tile", "tile"]

#: Rows whose bytes are picked ahead of the row that is multiplied. One after the other (0, as LLVM would have it) the
#: two compete for the pipe that both can use: 17.1 cycles a step of 24 rows, and 16.6 with 5, all that registers hold.
_AHEAD = 5


def expand_step(builder: Any, index: Any) -> Any:
    """Return the controls of one step from the byte pointer to its 16 index bytes."""
    # A 64-bit word holds two zero-extended index bytes, at bits 0 and 32.
    shifts = simd.constant(I8, [0, 2, 4, 6, 32, 34, 36, 38] * 8)
    packed = simd.widen_byte(builder, simd.load(builder, index, simd.vector(I8, CHANNELS), CHANNELS))
    bits = simd.multishift(builder, shifts, simd.bitcast(builder, packed, BYTES))
    bits = simd.bitwise_and(builder, bits, simd.constant(I8, [3] * 64))
    return simd.add(builder, bits, simd.constant(I8, [0, 1, 4, 5] * 16))


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
            source = simd.pointer(builder, builder.add(index, builder.mul(loop.index, I64(CHANNELS))))
            place = simd.pointer(builder, builder.add(controls, builder.mul(loop.index, I64(REGISTER))))
            simd.store(builder, place, expand_step(builder, source), REGISTER)
            following = builder.add(builder.ptrtoint(source, I64), builder.mul(steps, I64(CHANNELS)))
            simd.prefetch(builder, simd.pointer(builder, following))
        return I64(0)

    return types.intp(types.intp, types.intp, types.intp), generate


def multiply_step(
    builder: Any, accumulators: list[Any], octets: list[Any], values: Any, control: Any, ahead: int = _AHEAD
) -> None:
    """Add one step's products to every row's accumulator: broadcast 8 bytes, pick 4 for each channel, multiply.

    Bytes are picked `ahead` rows before they are multiplied, as far as registers reach.
    """
    waiting: list[tuple[Any, Any]] = []

    def multiply() -> None:
        slot, chosen = waiting.pop(0)
        chosen = simd.bitcast(builder, simd.in_order(builder, chosen), WORDS)
        total = simd.dot_u8s8(builder, builder.load(slot), chosen, values)
        builder.store(simd.in_order(builder, total), slot)

    for place, slot in zip(octets, accumulators, strict=True):
        lanes = simd.bitcast(builder, simd.broadcast(builder, simd.load(builder, place, I64), 8), BYTES)
        waiting.append((slot, simd.in_order(builder, simd.shuffle_bytes(builder, lanes, control))))
        if len(waiting) > ahead:
            multiply()
    while waiting:
        multiply()


class Octets(NamedTuple):
    """Where a tile's activations lie: 8 bytes of row r and step s at ``first + r * row + s * step``."""

    first: Any
    row: Any
    step: Any


class Expanded(NamedTuple):
    """What a tile reads of a block of 16 channels.

    Attributes
    ----------
    values, controls
        (steps, 16, 4) int8 and uint8, 64-byte aligned; `controls` are what :func:`expand_index` made.
    steps
        Steps of 8 reduction elements.
    """

    values: Any
    controls: Any
    steps: Any


def multiply_loop(builder: Any, accumulators: list[Any], octets: Octets, weight: Expanded) -> None:
    """Add the steps of a weight to the sums of the rows at `octets`.

    What follows the values in memory is what is multiplied next, so each step calls one line of it into L2: the weights
    of a whole network come from memory, and a block of channels is too short for the hardware to notice.
    """
    # Every third row has a pointer of its own, which the two after it are 1 and 2 strides away from: an address of
    # one instruction each. Marked, or LLVM would keep 24 offsets, more than there are registers.
    firsts = [
        cgutils.alloca_once_value(builder, builder.add(octets.first, builder.mul(octets.row, I64(row))))
        for row in range(0, len(accumulators), 3)
    ]
    moving = [cgutils.alloca_once_value(builder, address) for address in (weight.values, weight.controls)]
    with cgutils.for_range(builder, weight.steps):
        thirds = [simd.in_order(builder, builder.load(place)) for place in firsts]
        value, control = (builder.load(place) for place in moving)
        values = simd.load(builder, simd.pointer(builder, value), WORDS, REGISTER)
        chosen = simd.load(builder, simd.pointer(builder, control), BYTES, REGISTER)
        simd.prefetch(builder, simd.pointer(builder, builder.add(value, builder.mul(weight.steps, I64(REGISTER)))))
        places = [
            simd.pointer(builder, builder.add(thirds[row // 3], builder.mul(octets.row, I64(row % 3))))
            for row in range(len(accumulators))
        ]
        multiply_step(builder, accumulators, places, values, chosen)
        for place, address in zip(firsts, thirds, strict=True):
            builder.store(builder.add(address, octets.step), place)
        for place, address in zip(moving, (value, control), strict=True):
            builder.store(builder.add(address, I64(REGISTER)), place)


def start_tile(builder: Any, slots: list[Any], sums: Any, resume: Any) -> list[Any]:
    """Set accumulators to zero, or to the sums so far; return the places of their sums."""
    out = simd.pointer(builder, sums)
    places = [simd.element(builder, out, row * REGISTER) for row in range(len(slots))]
    for slot in slots:
        builder.store(ir.Constant(WORDS, None), slot)
    with builder.if_then(builder.icmp_signed("!=", resume, I64(0))):
        for place, slot in zip(places, slots, strict=True):
            builder.store(simd.load(builder, place, WORDS, REGISTER), slot)
    return places


@simd.emitter
def tile(context: Any, rows: Any, octets: Any, weight: Any, sums: Any, resume: Any) -> Any:
    """``sums[r, c] (+)= sum_s sum_j x[r, s, controls[s, c, j]] * values[s, c, j]``: up to 24 rows r, 16 channels c.

    Parameters
    ----------
    rows
        Literal int, at least 8: fewer rows would wait for their own dot products.
    octets
        :class:`Octets`: where x lies, (rows, steps, 8) uint8.
    weight
        :class:`Expanded`.
    sums
        (24, 16) int32, 64-byte aligned, of which `rows` rows are written.
    resume
        0 overwrites `sums`, which may then hold anything; otherwise the products are added to it.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        _, octets, weight, sums, resume = given
        slots = [cgutils.alloca_once(builder, WORDS) for _ in range(rows.literal_value)]
        places = start_tile(builder, slots, sums, resume)
        multiply_loop(builder, slots, fields_of(builder, Octets, octets), fields_of(builder, Expanded, weight))
        for slot, place in zip(slots, places, strict=True):
            simd.store(builder, place, builder.load(slot), REGISTER)
        return I64(0)

    return types.intp(rows, octets, weight, types.intp, types.intp), generate
