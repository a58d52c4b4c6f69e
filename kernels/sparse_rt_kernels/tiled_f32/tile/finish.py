"""Sums out of a register tile's block: bias, clip, store.

Each is a Numba intrinsic on addresses (intp) that returns an intp: Numba may drop a call that returns nothing. The IR
is plain ``<lanes x float>``, with `lanes` a literal int.
"""

from typing import Any

from sparse_rt_kernels.jit.compiler import types
from sparse_rt_kernels.jit.llvm import F32, I64
from sparse_rt_kernels.tiled_f32.tile.place import at
from sparse_rt_kernels.vectors import simd

__all__ = ["finish_plane", "finish_rows"]


def _clipped(builder: Any, value: Any, low: Any, high: Any) -> Any:
    lanes = value.type.count
    # larger and smaller return their second operand if it is NaN.
    value = simd.larger(builder, simd.broadcast(builder, low, lanes), value)
    return simd.smaller(builder, simd.broadcast(builder, high, lanes), value)


@simd.emitter
def finish_rows(
    context: Any,
    lanes: Any,
    sums: Any,
    stride: Any,
    bias: Any,
    low: Any,
    high: Any,
    out: Any,
    out_stride: Any,
    rows: Any,
    columns: Any,
) -> Any:
    """``out[i, j] = clip(sums[j, i] + bias[j], low, high)`` for i < rows and j < columns, both at most `lanes`.

    A square of `sums` is read whatever it holds; a NaN stays NaN. Strides are in bytes.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        _, sums, stride, bias, low, high, out, out_stride, rows, columns = given
        size = lanes.literal_value
        kind = simd.vector(F32, size)
        block = [simd.load(builder, at(builder, sums, I64(row), stride), kind, 4 * size) for row in range(size)]
        shift = simd.load_first(builder, simd.pointer(builder, bias), kind, columns)
        turned = [
            _clipped(builder, simd.fadd(builder, value, shift), low, high) for value in simd.transpose(builder, block)
        ]
        whole = builder.icmp_signed("==", builder.add(rows, columns), I64(2 * size))
        with builder.if_else(whole) as (full, ragged):
            with full:
                for row, value in enumerate(turned):
                    simd.store(builder, at(builder, out, I64(row), out_stride), value, 4)
            with ragged:
                for row, value in enumerate(turned):
                    with builder.if_then(builder.icmp_signed("<", I64(row), rows)):
                        simd.store_first(builder, at(builder, out, I64(row), out_stride), value, columns)
        return I64(0)

    floats = [types.float32] * 2
    return types.intp(lanes, *[types.intp] * 3, *floats, *[types.intp] * 4), generate


@simd.emitter
def finish_plane(context: Any, lanes: Any, sums: Any, bias: Any, low: Any, high: Any, out: Any, count: Any) -> Any:
    """``out[i] = clip(sums[i] + bias[0], low, high)`` for i < count, 1 to `lanes`; a NaN stays NaN."""

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        _, sums, bias, low, high, out, count = given
        size = lanes.literal_value
        kind = simd.vector(F32, size)
        shift = simd.broadcast(builder, simd.load(builder, simd.pointer(builder, bias), F32, 4), size)
        value = simd.fadd(builder, simd.load(builder, simd.pointer(builder, sums), kind, 4 * size), shift)
        value, place = _clipped(builder, value, low, high), simd.pointer(builder, out)
        with builder.if_else(builder.icmp_signed("==", count, I64(size))) as (full, ragged):
            with full:
                simd.store(builder, place, value, 4)
            with ragged:
                simd.store_first(builder, place, value, count)
        return I64(0)

    return types.intp(lanes, types.intp, types.intp, types.float32, types.float32, types.intp, types.intp), generate
