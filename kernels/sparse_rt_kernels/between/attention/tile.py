"""The register tile of attention's two products, scores and context: rows of A are broadcast, rows of B are lanes."""

from typing import Any, Final

from llvmlite import ir

from sparse_rt_kernels.jit.compilation import kernel_jit
from sparse_rt_kernels.jit.compiler import cgutils, types
from sparse_rt_kernels.jit.llvm import F32, I64
from sparse_rt_kernels.vectors import simd
from sparse_rt_kernels.vectors.loops import zero
from sparse_rt_kernels.vectors.registers import FLOATS, REGISTER

__all__ = ["HEIGHT", "multiply"]

#: Rows of the tallest tile: with 2 registers of columns 16 accumulators, which 10 loads feed.
HEIGHT: Final = 8


@simd.emitter
def _tile(
    context: Any,
    rows: Any,
    vectors: Any,
    a: Any,
    a_stride: Any,
    b: Any,
    b_stride: Any,
    y: Any,
    y_stride: Any,
    k: Any,
    accumulates: Any,
) -> Any:
    """``y[r, c] = sum_s a[r, s] * b[s, c]`` for literally `rows` rows and `vectors` registers of columns.

    Addresses and strides are in bytes. `y` is added to where `accumulates` is not 0.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        height, width = rows.literal_value, vectors.literal_value
        _, _, a, a_stride, b, b_stride, y, y_stride, k, accumulates = given
        sources, places = (
            [simd.pointer(builder, builder.add(base, builder.mul(stride, I64(row)))) for row in range(height)]
            for base, stride in ((a, a_stride), (y, y_stride))
        )
        none = ir.Constant(FLOATS, None)
        slots = [[cgutils.alloca_once(builder, FLOATS) for _ in range(width)] for _ in range(height)]
        with builder.if_else(builder.icmp_signed("!=", accumulates, zero())) as (continued, fresh):
            for branch, is_fresh in ((continued, False), (fresh, True)):
                with branch:
                    for place, row in zip(places, slots, strict=True):
                        for column, slot in enumerate(row):
                            at = simd.element(builder, place, REGISTER * column)
                            builder.store(none if is_fresh else simd.load(builder, at, FLOATS, REGISTER), slot)
        here = cgutils.alloca_once_value(builder, simd.pointer(builder, b))
        with cgutils.for_range(builder, k) as loop:
            line = builder.load(here)
            columns = [
                simd.load(builder, simd.element(builder, line, REGISTER * c), FLOATS, REGISTER) for c in range(width)
            ]
            offset = builder.shl(loop.index, I64(2))
            for source, row in zip(sources, slots, strict=True):
                item = simd.load(builder, simd.element(builder, source, offset), F32, 4)
                factor = simd.broadcast(builder, item, 16)
                for column, slot in zip(columns, row, strict=True):
                    builder.store(simd.fma(builder, factor, column, builder.load(slot)), slot)
            builder.store(simd.element(builder, line, b_stride), here)
        for place, row in zip(places, slots, strict=True):
            for column, slot in enumerate(row):
                simd.store(builder, simd.element(builder, place, REGISTER * column), builder.load(slot), REGISTER)
        return zero()

    return types.intp(rows, vectors, *[types.intp] * 8), generate


@kernel_jit
def multiply(
    a: int,
    a_stride: int,
    b: int,
    b_stride: int,
    y: int,
    y_stride: int,
    k: int,
    rows: int,
    vectors: int,
    accumulates: int,
) -> int:
    """``y[r, c] = sum_s a[r, s] * b[s, c]`` of float32 for `rows` rows and `vectors` registers of columns.

    `b` and `y` and their strides are multiples of 64 bytes.
    """
    for column in range(0, vectors, 2):
        right, out = b + REGISTER * column, y + REGISTER * column
        wide = vectors - column >= 2
        row = 0
        while row < rows:
            left, to, more = a + row * a_stride, out + row * y_stride, rows - row
            if more >= 8:
                height = 8
                if wide:
                    _tile(8, 2, left, a_stride, right, b_stride, to, y_stride, k, accumulates)
                else:
                    _tile(8, 1, left, a_stride, right, b_stride, to, y_stride, k, accumulates)
            elif more >= 4:
                height = 4
                if wide:
                    _tile(4, 2, left, a_stride, right, b_stride, to, y_stride, k, accumulates)
                else:
                    _tile(4, 1, left, a_stride, right, b_stride, to, y_stride, k, accumulates)
            else:
                height = 1
                if wide:
                    _tile(1, 2, left, a_stride, right, b_stride, to, y_stride, k, accumulates)
                else:
                    _tile(1, 1, left, a_stride, right, b_stride, to, y_stride, k, accumulates)
            row += height
    return 0
