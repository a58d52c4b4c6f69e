"""Pixels of an image into a panel, copied or gathered.

Each is a Numba intrinsic on addresses (intp) that returns an intp: Numba may drop a call that returns nothing. The IR
is plain ``<lanes x float>``, with `lanes` a literal int.
"""

from typing import Any

from sparse_rt_kernels.jit.compiler import cgutils, types
from sparse_rt_kernels.jit.llvm import F32, I8, I32, I64
from sparse_rt_kernels.product.f32.finite import Finite
from sparse_rt_kernels.tiled_f32.tile.place import at
from sparse_rt_kernels.vectors import simd

__all__ = ["copy_lanes", "gather_lanes", "zero_bytes"]


@simd.emitter
def copy_lanes(context: Any, lanes: Any, source: Any, stride: Any, count: Any, out: Any, out_stride: Any) -> Any:
    """``out[k, l] = source[k, l]`` for k < count and one register of lanes l; strides in bytes.

    `out` is aligned to a register. Returns 0 if all are finite.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        _, source, stride, count, out, out_stride = given
        kind = simd.vector(F32, lanes.literal_value)
        finite = Finite(builder, kind)
        with cgutils.for_range(builder, count) as loop:
            value = simd.load(builder, at(builder, source, loop.index, stride), kind, 4)
            simd.store(builder, at(builder, out, loop.index, out_stride), value, 4 * kind.count)
            finite.note(builder, value)
        return finite.spoiled(builder)

    return types.intp(lanes, *[types.intp] * 5), generate


@simd.emitter
def gather_lanes(
    context: Any, lanes: Any, source: Any, stride: Any, offsets: Any, count: Any, out: Any, out_stride: Any
) -> Any:
    """``out[k, l] = source[k, offsets[l]]`` for k < count, zero where an offset is negative; strides in bytes.

    `offsets` are int32, in items; `out` is aligned to a register. Returns 0 if all are finite.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        _, source, stride, offsets, count, out, out_stride = given
        size = lanes.literal_value
        kind = simd.vector(F32, size)
        finite = Finite(builder, kind)
        where = simd.load(builder, simd.pointer(builder, offsets), simd.vector(I32, size), 4)
        with cgutils.for_range(builder, count) as loop:
            value = simd.gather(builder, at(builder, source, loop.index, stride), where, kind)
            simd.store(builder, at(builder, out, loop.index, out_stride), value, 4 * size)
            finite.note(builder, value)
        return finite.spoiled(builder)

    return types.intp(lanes, *[types.intp] * 6), generate


@simd.emitter
def zero_bytes(context: Any, out: Any, count: Any) -> Any:
    """Store zeros at `count` addresses from `out` on."""

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        cgutils.memset(builder, simd.pointer(builder, given[0]), given[1], I8(0))
        return I64(0)

    return types.intp(types.intp, types.intp), generate
