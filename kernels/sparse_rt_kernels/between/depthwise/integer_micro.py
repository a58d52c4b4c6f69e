"""SIMD blocks of the int8 depthwise convolution: 64 output pixels of one channel at a time, as int32 lanes.

A lane of 4 bytes holds 4 neighbouring columns, so that one ``vpdpbusd`` multiplies a row of up to 4 taps. Lane j of a
vector that is loaded at byte t belongs to output pixel 4 j + t: four unaligned loads make 64 pixels, without a shuffle.
With columns 2 apart, two loads at bytes 0 and 2 make 32 pixels, lane j being pixel 2 j + t.
"""

from typing import Any

from sparse_rt_kernels.between.depthwise.finish import Finish, dot
from sparse_rt_kernels.between.depthwise.layout import BLOCK
from sparse_rt_kernels.between.depthwise.operands import Block, Bytes, TapTable
from sparse_rt_kernels.between.depthwise.sums import Taps, emit_sums
from sparse_rt_kernels.jit.compiler import cgutils, types
from sparse_rt_kernels.jit.llvm import I32, I64
from sparse_rt_kernels.vectors import simd
from sparse_rt_kernels.vectors.records import fields_of
from sparse_rt_kernels.vectors.registers import LANES, WORDS

__all__ = ["multiply_bytes"]


@simd.emitter
def multiply_bytes(
    context: Any, rows: Any, columns: Any, step: Any, level: Any, block: Any, table: Any, operands: Any
) -> Any:
    """``out[f] = epilogue(sum over taps of weight * source[offset + step * f])`` for the flat pixels f of blocks.

    Parameters
    ----------
    rows, columns
        Literal ints: :class:`sums.Taps`, a column being 4 taps.
    step
        Literal int: bytes from pixel to pixel, 1 or 2.
    level
        Literal int, that of :mod:`isa`.
    block
        :class:`operands.Block` of unsigned bytes; `pitch` is the bytes of an output.
    table
        :class:`operands.TapTable`; a weight is 4 signed bytes.
    operands
        :class:`operands.Bytes`.
    """

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        a = fields_of(builder, Block, given[4])
        taps = fields_of(builder, TapTable, given[5])
        end = fields_of(builder, Bytes, given[6])
        every, tier = step.literal_value, level.literal_value
        starts = [64 * (v * every // 4) + v * every % 4 for v in range(4)]
        zero = simd.broadcast(builder, builder.trunc(end.offset, I32), LANES)
        finish = Finish(builder, tier, every, end)
        with cgutils.for_range(builder, a.blocks) as each:
            base = builder.add(a.source, builder.mul(each.index, I64(BLOCK * every)))

            def read(tap: Any, v: int) -> Any:
                place = simd.pointer(builder, builder.add(base, tap))
                return simd.load(builder, simd.element(builder, place, starts[v]), WORDS)

            unrolled = Taps(rows.literal_value, columns.literal_value, 1, 1)
            (sums,) = emit_sums(
                builder,
                unrolled,
                taps,
                I32,
                [[zero] * 4],
                read,
                lambda acc, values, held: dot(builder, tier, acc, values, held),
            )
            at = builder.add(a.out, builder.mul(each.index, builder.mul(a.pitch, I64(BLOCK))))
            finish.store(sums, simd.pointer(builder, at))
        return I64(0)

    return types.intp(rows, columns, step, level, block, table, operands), generate
