"""SIMD blocks of the float32 depthwise convolution: 64 output pixels of one channel at a time."""

from typing import Any

from sparse_rt_kernels.between.depthwise.layout import BLOCK
from sparse_rt_kernels.between.depthwise.operands import Block, Floats, TapTable
from sparse_rt_kernels.between.depthwise.sums import Taps, emit_sums
from sparse_rt_kernels.jit.compiler import cgutils, types
from sparse_rt_kernels.jit.llvm import F32, I64
from sparse_rt_kernels.vectors import simd
from sparse_rt_kernels.vectors.records import fields_of
from sparse_rt_kernels.vectors.registers import FLOATS, LANES

__all__ = ["multiply_floats"]


@simd.emitter
def multiply_floats(
    context: Any, rows: Any, columns: Any, together: Any, down: Any, block: Any, table: Any, operands: Any
) -> Any:
    """``out[p, f] = clip(bias + sum over taps of weight * source[offset + f])`` for the flat pixels f of blocks.

    Parameters
    ----------
    rows, columns, together, down
        Literal ints: :class:`sums.Taps`; `together` is the output rows p.
    block
        :class:`operands.Block`, columns of a stride separated.
    table
        :class:`operands.TapTable`; a weight is a float32.
    operands
        :class:`operands.Floats`.
    """

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        a = fields_of(builder, Block, given[4])
        held_taps = fields_of(builder, TapTable, given[5])
        taps = Taps(rows.literal_value, columns.literal_value, together.literal_value, down.literal_value)
        # Rows computed together share what they read: one vector of each is enough to hide an FMA's latency.
        vectors = max(1, 4 // taps.together)
        start, least, most = (simd.broadcast(builder, value, LANES) for value in fields_of(builder, Floats, given[6]))
        pieces = builder.mul(a.blocks, I64(BLOCK // LANES // vectors))
        with cgutils.for_range(builder, pieces) as piece:
            at = builder.mul(piece.index, I64(64 * vectors))
            base = builder.add(a.source, at)

            def read(tap: Any, v: int) -> Any:
                place = simd.pointer(builder, builder.add(base, tap))
                return simd.load(builder, simd.element(builder, place, 64 * v), FLOATS)

            sums = emit_sums(
                builder,
                taps,
                held_taps,
                F32,
                [[start] * vectors for _ in range(taps.together)],
                read,
                lambda acc, values, held: simd.fma(builder, values, held, acc),
            )
            for number, row in enumerate(sums):
                place = simd.pointer(builder, builder.add(builder.add(a.out, at), builder.mul(a.pitch, I64(number))))
                for v, acc in enumerate(row):
                    # larger and smaller give their second operand if either is NaN.
                    value = simd.smaller(builder, most, simd.larger(builder, least, acc))
                    simd.store(builder, simd.element(builder, place, 64 * v), value)
        return I64(0)

    return types.intp(rows, columns, together, down, block, table, operands), generate
