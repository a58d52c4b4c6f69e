"""Keys and values of one head, laid out for the register tile."""

from typing import Any

from sparse_rt_kernels.jit.compilation import kernel_jit
from sparse_rt_kernels.jit.compiler import types
from sparse_rt_kernels.jit.llvm import I64
from sparse_rt_kernels.vectors import simd
from sparse_rt_kernels.vectors.loops import zero
from sparse_rt_kernels.vectors.registers import FLOATS, LANES, REGISTER

__all__ = ["copy_rows", "transpose_rows"]


@simd.emitter
def _transpose_square(context: Any, x: Any, x_stride: Any, y: Any, y_stride: Any, rows: Any, columns: Any) -> Any:
    """``y[c, r] = x[r, c]`` of up to 16 x 16 float32; y gets zeros for rows and columns that x does not have."""

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        x, x_stride, y, y_stride, rows, columns = given

        def move(is_whole: bool) -> None:
            loaded = []
            for row in range(LANES):
                at = simd.pointer(builder, builder.add(x, builder.mul(x_stride, I64(row))))
                if is_whole:
                    loaded.append(simd.load(builder, at, FLOATS, 4))
                    continue
                is_there = builder.icmp_signed("<", I64(row), rows)
                loaded.append(simd.load_first(builder, at, FLOATS, builder.select(is_there, columns, zero())))
            for column, value in enumerate(simd.transpose(builder, loaded)):
                to = builder.add(y, builder.mul(y_stride, I64(column)))
                simd.store(builder, simd.pointer(builder, to), value, REGISTER)

        full = I64(LANES)
        is_whole = builder.and_(builder.icmp_signed(">=", rows, full), builder.icmp_signed(">=", columns, full))
        with builder.if_else(is_whole) as (whole, partial):
            with whole:
                move(True)
            with partial:
                move(False)
        return zero()

    return types.intp(*[types.intp] * 6), generate


@kernel_jit
def transpose_rows(x: int, x_stride: int, rows: int, columns: int, y: int, y_stride: int) -> int:
    """``y[c, r] = x[r, c]`` of float32; y has room for, and gets zeros in, whole squares of 16 x 16."""
    for row in range(0, rows, 16):
        for column in range(0, columns, 16):
            source, to = x + row * x_stride + 4 * column, y + column * y_stride + 4 * row
            _transpose_square(source, x_stride, to, y_stride, rows - row, columns - column)
    return 0


@simd.emitter
def _copy_register(context: Any, x: Any, y: Any, count: Any) -> Any:
    """Copy the first `count` float32 of up to 16, and store zeros after them."""

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        x, y, count = given
        value = simd.load_first(builder, simd.pointer(builder, x), FLOATS, count)
        simd.store(builder, simd.pointer(builder, y), value, REGISTER)
        return zero()

    return types.intp(*[types.intp] * 3), generate


@kernel_jit
def copy_rows(x: int, x_stride: int, rows: int, columns: int, y: int, y_stride: int) -> int:
    """``y[r, c] = x[r, c]`` of float32; rows of y are whole registers."""
    for row in range(rows):
        for column in range(0, columns, 16):
            _copy_register(x + row * x_stride + 4 * column, y + row * y_stride + 4 * column, columns - column)
    return 0
