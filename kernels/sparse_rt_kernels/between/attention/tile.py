"""The register tile of attention's two products, scores and context: rows of A are broadcast, rows of B are lanes."""

from typing import Any, NamedTuple

from llvmlite import ir

from sparse_rt_kernels.jit.compilation import kernel_jit
from sparse_rt_kernels.jit.compiler import cgutils, types
from sparse_rt_kernels.jit.llvm import F32, I64
from sparse_rt_kernels.vectors import simd
from sparse_rt_kernels.vectors.loops import zero
from sparse_rt_kernels.vectors.records import fields_of
from sparse_rt_kernels.vectors.registers import FLOATS, REGISTER

__all__ = ["Product", "multiply"]


class Product(NamedTuple):
    """``y[r, c] = sum_s a[r, s] * b[s, c]`` of float32: ints, or IR i64 where code is emitted.

    Attributes
    ----------
    a, a_stride, b, b_stride, y, y_stride
        Addresses, and bytes from row to row; those of `b` and `y` are multiples of 64.
    k
        How many products there are in a sum.
    accumulates
        `y` is added to where this is not 0.
    """

    a: Any
    a_stride: Any
    b: Any
    b_stride: Any
    y: Any
    y_stride: Any
    k: Any
    accumulates: Any


def _rows(builder: Any, base: Any, stride: Any, height: int) -> list[Any]:
    """Return the byte pointers of rows."""
    return [simd.pointer(builder, builder.add(base, builder.mul(stride, I64(row)))) for row in range(height)]


def _begin(builder: Any, places: list[Any], slots: list[list[Any]], accumulates: Any) -> None:
    """Store in `slots` what sums begin with: what lies in rows of registers at `places`, or 0."""
    with builder.if_else(builder.icmp_signed("!=", accumulates, zero())) as (continued, fresh):
        for branch, is_fresh in ((continued, False), (fresh, True)):
            with branch:
                for place, row in zip(places, slots, strict=True):
                    for column, slot in enumerate(row):
                        at = simd.element(builder, place, REGISTER * column)
                        held = ir.Constant(FLOATS, None) if is_fresh else simd.load(builder, at, FLOATS, REGISTER)
                        builder.store(held, slot)


@simd.emitter
def _tile(context: Any, rows: Any, vectors: Any, product: Any) -> Any:
    """Compute a :class:`Product` of literally `rows` rows and `vectors` registers of columns."""

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        height, width = rows.literal_value, vectors.literal_value
        p = fields_of(builder, Product, given[2])
        sources, places = (
            _rows(builder, base, stride, height) for base, stride in ((p.a, p.a_stride), (p.y, p.y_stride))
        )
        slots = [[cgutils.alloca_once(builder, FLOATS) for _ in range(width)] for _ in range(height)]
        _begin(builder, places, slots, p.accumulates)
        here = cgutils.alloca_once_value(builder, simd.pointer(builder, p.b))
        with cgutils.for_range(builder, p.k) as loop:
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
            builder.store(simd.element(builder, line, p.b_stride), here)
        for place, row in zip(places, slots, strict=True):
            for column, slot in enumerate(row):
                simd.store(builder, simd.element(builder, place, REGISTER * column), builder.load(slot), REGISTER)
        return zero()

    return types.intp(rows, vectors, product), generate


@kernel_jit
def _one_or_two(height: int, is_pair: bool, product: Product) -> int:
    """Compute a tile of literally `height` rows, and of two registers of columns or one."""
    if is_pair:
        _tile(height, 2, product)
    else:
        _tile(height, 1, product)
    return height


@kernel_jit
def multiply(p: Product, rows: int, vectors: int) -> int:
    """Compute a product of `rows` rows and `vectors` registers of columns."""
    for column in range(0, vectors, 2):
        at, is_pair = REGISTER * column, vectors - column >= 2
        row = 0
        while row < rows:
            a, y = p.a + row * p.a_stride, p.y + at + row * p.y_stride
            here = Product(a, p.a_stride, p.b + at, p.b_stride, y, p.y_stride, p.k, p.accumulates)
            if rows - row >= 8:
                row += _one_or_two(8, is_pair, here)
            elif rows - row >= 4:
                row += _one_or_two(4, is_pair, here)
            else:
                row += _one_or_two(1, is_pair, here)
    return 0
