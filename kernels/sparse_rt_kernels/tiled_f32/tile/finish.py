"""Sums out of a register tile's block: bias, clip, store.

Each is a Numba intrinsic on addresses (intp) that returns an intp: Numba may drop a call that returns nothing. The IR
is plain ``<lanes x float>``, with `lanes` a literal int.
"""

from typing import Any

from sparse_rt_kernels.jit.compiler import types
from sparse_rt_kernels.jit.llvm import F32, I64
from sparse_rt_kernels.product.f32.ending import Ending, clipped
from sparse_rt_kernels.tiled_f32.tile.place import at
from sparse_rt_kernels.vectors import simd
from sparse_rt_kernels.vectors.records import fields_of

__all__ = ["finish_plane", "finish_rows"]


@simd.emitter
def finish_rows(context: Any, lanes: Any, sums: Any, stride: Any, ending: Any) -> Any:
    """``out[i, j] = clip(sums[j, i] + bias[j], low, high)`` for the rows i and columns j of an Ending, at most `lanes`.

    A square of `sums` is read whatever it holds; no residual is. The stride is in bytes.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        _, sums, stride, ending = given
        size, end = lanes.literal_value, fields_of(builder, Ending, ending)
        kind = simd.vector(F32, size)
        block = [simd.load(builder, at(builder, sums, I64(row), stride), kind, 4 * size) for row in range(size)]
        shift = simd.load_first(builder, simd.pointer(builder, end.bias), kind, end.columns)
        low, high = simd.broadcast(builder, end.low, size), simd.broadcast(builder, end.high, size)
        transposed = simd.transpose(builder, block)
        results = [clipped(builder, simd.fadd(builder, value, shift), low, high) for value in transposed]
        whole = builder.icmp_signed("==", builder.add(end.rows, end.columns), I64(2 * size))
        with builder.if_else(whole) as (full, ragged):
            with full:
                for row, value in enumerate(results):
                    simd.store(builder, at(builder, end.out, I64(row), end.stride), value, 4)
            with ragged:
                for row, value in enumerate(results):
                    with builder.if_then(builder.icmp_signed("<", I64(row), end.rows)):
                        simd.store_first(builder, at(builder, end.out, I64(row), end.stride), value, end.columns)
        return I64(0)

    return types.intp(lanes, types.intp, types.intp, ending), generate


@simd.emitter
def finish_plane(context: Any, lanes: Any, sums: Any, ending: Any) -> Any:
    """``out[i] = clip(sums[i] + bias[0], low, high)`` for 1 to `lanes` columns i of an Ending, without residual."""

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        _, sums, ending = given
        size, end = lanes.literal_value, fields_of(builder, Ending, ending)
        kind = simd.vector(F32, size)
        shift = simd.broadcast(builder, simd.load(builder, simd.pointer(builder, end.bias), F32, 4), size)
        value = simd.fadd(builder, simd.load(builder, simd.pointer(builder, sums), kind, 4 * size), shift)
        low, high = simd.broadcast(builder, end.low, size), simd.broadcast(builder, end.high, size)
        value, place = clipped(builder, value, low, high), simd.pointer(builder, end.out)
        with builder.if_else(builder.icmp_signed("==", end.columns, I64(size))) as (full, ragged):
            with full:
                simd.store(builder, place, value, 4)
            with ragged:
                simd.store_first(builder, place, value, end.columns)
        return I64(0)

    return types.intp(lanes, types.intp, ending), generate
