"""Moves of the float32 2:4 family that bring lanes into panels as they are.

Each is a Numba intrinsic on addresses (intp). They return an intp, because Numba may drop a call that returns nothing.
The IR is plain ``<16 x float>``: LLVM splits it for CPUs with narrower registers.
"""

from typing import Any

from llvmlite import ir

from sparse_rt_kernels.jit.compiler import cgutils, types
from sparse_rt_kernels.jit.llvm import I32, I64
from sparse_rt_kernels.n2m4_f32.tile.lanes import bits_of, mask_of, returns_intp
from sparse_rt_kernels.product.f32.finite import not_finite
from sparse_rt_kernels.vectors import simd
from sparse_rt_kernels.vectors.registers import FLOATS, LANES, MASK, REGISTER, WORDS

__all__ = [
    "copy_lanes",
    "copy_rows",
    "first_lane",
    "gather_lanes",
    "lanes_on_line",
    "zero_lanes",
]


def _larger_magnitude(builder: Any, value: Any, largest: Any) -> Any:
    """Return the larger of `largest` and the bits of |value|, lane by lane.

    A float is finite if its bits without the sign are less than those of infinity: a maximum of integers takes one
    cycle, and waits for no more than the one before.
    """
    bits = builder.and_(builder.bitcast(value, WORDS), simd.constant(I32, [0x7FFFFFFF] * LANES))
    return builder.select(builder.icmp_signed(">", bits, largest), bits, largest)


def _has_not_finite(builder: Any, largest: Any) -> Any:
    """Return for each lane whether the largest magnitude, as bits, is that of infinity or NaN."""
    return builder.icmp_signed(">=", largest, simd.constant(I32, [0x7F800000] * LANES))


@simd.emitter
def lanes_on_line(context: Any, offsets: Any, base: Any, step: Any) -> Any:
    """Return, as 16 bits, the lanes l whose int32 offset is ``base + step * l``."""

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        offsets, base, step = given
        found = simd.load(builder, simd.pointer(builder, offsets), WORDS, 4)
        step, base = builder.trunc(step, I32), builder.trunc(base, I32)
        line = simd.multiply(builder, simd.broadcast(builder, step, LANES), simd.constant(I32, range(LANES)))
        line = simd.add(builder, line, simd.broadcast(builder, base, LANES))
        return bits_of(builder, builder.icmp_signed("==", found, line))

    return returns_intp(3), generate


@simd.emitter
def first_lane(context: Any, bits: Any) -> Any:
    """Return the number of the lowest bit that is set; one is."""

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        return builder.cttz(given[0], ir.Constant(ir.IntType(1), 1))

    return returns_intp(1), generate


def _masked_load(builder: Any, source: Any, step: int, lanes: Any, held: Any) -> Any:
    """Return ``source[step * l]`` in the lanes l of the mask `lanes`, and `held` in the others."""
    if step == 1:
        return simd.load_masked(builder, source, FLOATS, lanes, held)
    zero, none = ir.Constant(FLOATS, None), ir.Constant(MASK, None)
    halves = []
    for half in range(2):
        # Element 2 * i of a half is lane i of it; the elements between are not read.
        spread = [LANES if i % 2 else LANES // 2 * half + i // 2 for i in range(LANES)]
        wanted = simd.shuffle(builder, lanes, none, spread)
        halves.append(simd.load_masked(builder, simd.element(builder, source, half * REGISTER), FLOATS, wanted, zero))
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
        lanes, kept_lanes, zero = mask_of(builder, mask), mask_of(builder, kept), ir.Constant(FLOATS, None)
        source_at, out_at = cgutils.alloca_once_value(builder, source), cgutils.alloca_once_value(builder, out)
        largest_at = cgutils.alloca_once_value(builder, ir.Constant(WORDS, None))

        def copy(keep: bool) -> None:
            with cgutils.for_range(builder, rows):
                place = simd.pointer(builder, builder.load(out_at))
                held = simd.load_masked(builder, place, FLOATS, kept_lanes, zero) if keep else zero
                here = simd.pointer(builder, builder.load(source_at))
                value = _masked_load(builder, here, step.literal_value, lanes, held)
                simd.store(builder, place, value, REGISTER)
                builder.store(_larger_magnitude(builder, value, builder.load(largest_at)), largest_at)
                builder.store(builder.add(builder.load(source_at), stride), source_at)
                builder.store(builder.add(builder.load(out_at), out_stride), out_at)

        with builder.if_else(builder.icmp_signed("==", kept, I64(0))) as (first, further):
            with first:
                copy(False)
            with further:
                copy(True)
        return bits_of(builder, _has_not_finite(builder, builder.load(largest_at)))

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
        width, none = vectors.literal_value, ir.Constant(WORDS, None)
        table = [
            [simd.load(builder, simd.pointer(builder, builder.add(copies, I64(32 * v + at))), I64, 8) for at in (8, 16)]
            for v in range(width)
        ]
        plan = [(builder.mul(base, I64(4)), mask_of(builder, lanes)) for base, lanes in table]
        source_at, out_at = cgutils.alloca_once_value(builder, source), cgutils.alloca_once_value(builder, out)
        # Neighbouring vectors do not wait for each other's maximum.
        largest = [cgutils.alloca_once_value(builder, none) for _ in range(2)]
        with cgutils.for_range(builder, rows):
            here, to = builder.load(source_at), simd.pointer(builder, builder.load(out_at))
            for vector, (base, lanes) in enumerate(plan):
                place = simd.pointer(builder, builder.add(here, base))
                value = simd.load_masked(builder, place, FLOATS, lanes, ir.Constant(FLOATS, None))
                simd.store(builder, simd.element(builder, to, vector * REGISTER), value, REGISTER)
                slot = largest[vector % 2]
                builder.store(_larger_magnitude(builder, value, builder.load(slot)), slot)
            builder.store(builder.add(here, stride), source_at)
            builder.store(builder.add(builder.load(out_at), I64(width * REGISTER)), out_at)
        return bits_of(builder, builder.or_(*(_has_not_finite(builder, builder.load(slot)) for slot in largest)))

    return types.intp(vectors, *[types.intp] * 5), generate


@simd.emitter
def gather_lanes(context: Any, source: Any, offsets: Any, out: Any) -> Any:
    """``out[l] = source[offsets[l]]`` (float32 items, int32 offsets), zero where the offset is negative.

    Returns 0 if `out` is finite.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        source, offsets, out = given
        where = simd.load(builder, simd.pointer(builder, offsets), WORDS, 4)
        value = simd.gather(builder, simd.pointer(builder, source), where, FLOATS)
        simd.store(builder, simd.pointer(builder, out), value, REGISTER)
        return not_finite(builder, [value])

    return returns_intp(3), generate


@simd.emitter
def zero_lanes(context: Any, out: Any) -> Any:
    """``out[l] = 0`` for 16 lanes; `out` is 64-byte aligned."""

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        simd.store(builder, simd.pointer(builder, given[0]), ir.Constant(FLOATS, None), REGISTER)
        return I64(0)

    return returns_intp(1), generate
