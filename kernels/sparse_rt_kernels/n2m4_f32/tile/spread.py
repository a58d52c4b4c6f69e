"""Moves of the float32 2:4 family that lay rows out by octets, as the tile with lanes of channels reads them.

Each is a Numba intrinsic on addresses (intp). They return an intp, because Numba may drop a call that returns nothing.
"""

from typing import Any

from sparse_rt_kernels.jit.compiler import cgutils, types
from sparse_rt_kernels.jit.llvm import I64
from sparse_rt_kernels.n2m4_f32.blocking.panels import OCTET_BYTES, REDUCTION
from sparse_rt_kernels.product.f32.finite import Finite
from sparse_rt_kernels.vectors import simd
from sparse_rt_kernels.vectors.registers import FLOATS, LANES, REGISTER

__all__ = ["spread_block", "spread_rest", "spread_row"]


def _store_octets(builder: Any, value: Any, place: Any, pitch: Any) -> None:
    """Store the halves of `value` at address `place` and `pitch` bytes behind it."""
    for half, to in enumerate((place, builder.add(place, pitch))):
        lanes = range(half * REDUCTION, (half + 1) * REDUCTION)
        simd.store(builder, simd.pointer(builder, to), simd.shuffle(builder, value, value, lanes), OCTET_BYTES)


@simd.emitter
def spread_row(context: Any, source: Any, columns: Any, octets: Any, out: Any, pitch: Any) -> Any:
    """``out[o, j] = source[8 o + j]`` for `octets` groups of 8, `pitch` bytes apart; zero from `columns` on.

    `out` is 32-byte aligned; if `octets` is odd, one group more is written. Returns 0 if all columns are finite.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        source, columns, octets, out, pitch = given
        finite = Finite(builder, FLOATS)
        with cgutils.for_range(builder, builder.sdiv(builder.add(octets, I64(1)), I64(2))) as loop:
            done = builder.mul(loop.index, I64(LANES))
            place = simd.pointer(builder, source, builder.mul(done, I64(4)))
            value = simd.load_first(builder, place, FLOATS, builder.sub(columns, done))
            finite.note(builder, value)
            _store_octets(builder, value, builder.add(out, builder.mul(builder.mul(loop.index, I64(2)), pitch)), pitch)
        return finite.spoiled(builder)

    return types.intp(*[types.intp] * 5), generate


@simd.emitter
def spread_block(context: Any, source: Any, stride: Any, offsets: Any, out: Any, pitch: Any) -> Any:
    """Write 16 reduction elements of 16 lanes transposed: ``(out + offsets[p])[o, j] = source[8 o + j, p]``.

    Strides and offsets (int64) are in bytes, `pitch` those from o = 0 to 1; `source` is 64-byte aligned.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        source, stride, offsets, out, pitch = given
        block = [
            simd.load(builder, simd.pointer(builder, source, builder.mul(stride, I64(row))), FLOATS, REGISTER)
            for row in range(LANES)
        ]
        for lane, value in enumerate(simd.transpose(builder, block)):
            offset = simd.load(builder, simd.pointer(builder, offsets, I64(8 * lane)), I64, 8)
            _store_octets(builder, value, builder.add(out, offset), pitch)
        return I64(0)

    return types.intp(*[types.intp] * 5), generate


@simd.emitter
def spread_rest(context: Any, rest: Any, source: Any, out: Any) -> Any:
    """``out[o, r, j] = source[8 o + j, r]`` for two octets o and the first `rest` of 16 lanes r, a literal int.

    `source` is (16, 16) float32, 64-byte aligned; `out` is 32-byte aligned.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        _, source, out = given
        rows = rest.literal_value
        block = [
            simd.load(builder, simd.element(builder, simd.pointer(builder, source), row * REGISTER), FLOATS, REGISTER)
            for row in range(LANES)
        ]
        for row, value in enumerate(simd.transpose(builder, block)[:rows]):
            _store_octets(builder, value, builder.add(out, I64(row * REDUCTION * 4)), I64(rows * REDUCTION * 4))
        return I64(0)

    return types.intp(rest, types.intp, types.intp), generate
