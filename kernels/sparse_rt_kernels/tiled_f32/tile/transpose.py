"""Rows of a matrix into a panel, transposed.

Each is a Numba intrinsic on addresses (intp) that returns an intp: Numba may drop a call that returns nothing. The IR
is plain ``<lanes x float>``, with `lanes` a literal int.
"""

from typing import Any

from llvmlite import ir

from sparse_rt_kernels.jit.compiler import cgutils, types
from sparse_rt_kernels.jit.llvm import F32, I64
from sparse_rt_kernels.product.f32.finite import Finite
from sparse_rt_kernels.tiled_f32.tile.place import at
from sparse_rt_kernels.vectors import simd

__all__ = ["transpose_in"]


def _load_square(builder: Any, kind: Any, source: Any, stride: Any, rows: Any, columns: Any, slots: list[Any]) -> None:
    """Load as many rows as there are lanes; zeros beyond `rows` and `columns`, where memory is not read."""
    size = kind.count
    whole = builder.icmp_signed(">=", rows, I64(size))
    whole = builder.and_(whole, builder.icmp_signed(">=", columns, I64(size)))
    places = [at(builder, source, I64(row), stride) for row in range(size)]
    with builder.if_else(whole) as (full, ragged):
        with full:
            for place, slot in zip(places, slots, strict=True):
                builder.store(simd.load(builder, place, kind, 4), slot)
        with ragged:
            for row, (place, slot) in enumerate(zip(places, slots, strict=True)):
                builder.store(ir.Constant(kind, None), slot)
                with builder.if_then(builder.icmp_signed("<", I64(row), rows)):
                    builder.store(simd.load_first(builder, place, kind, columns), slot)


@simd.emitter
def transpose_in(
    context: Any, lanes: Any, source: Any, stride: Any, rows: Any, columns: Any, out: Any, out_stride: Any
) -> Any:
    """``out[j, i] = source[i, j]`` for i < lanes and j < columns of a row-major float32 matrix.

    `columns` is rounded up to a multiple of `lanes`; only the first `rows` rows and `columns` columns of the source are
    read, the others are zero. Strides are in bytes; `out` is aligned to a register. Returns 0 if all that was read is
    finite.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        _, source, stride, rows, columns, out, out_stride = given
        size = lanes.literal_value
        kind = simd.vector(F32, size)
        slots = [cgutils.alloca_once(builder, kind) for _ in range(size)]
        finite = Finite(builder, kind)
        squares = builder.udiv(builder.add(columns, I64(size - 1)), I64(size))
        with cgutils.for_range(builder, squares) as loop:
            first = builder.mul(loop.index, I64(size))
            left = builder.sub(columns, first)
            _load_square(builder, kind, builder.add(source, builder.mul(first, I64(4))), stride, rows, left, slots)
            block = [builder.load(slot) for slot in slots]
            for value in block:
                finite.note(builder, value)
            base = builder.add(out, builder.mul(first, out_stride))
            for column, value in enumerate(simd.transpose(builder, block)):
                simd.store(builder, at(builder, base, I64(column), out_stride), value, 4 * size)
        return finite.spoiled(builder)

    return types.intp(lanes, *[types.intp] * 6), generate
