"""SIMD blocks of the int8 depthwise convolution: 64 output pixels of one channel at a time, as int32 lanes.

A lane of 4 bytes holds 4 neighbouring columns, so that one ``vpdpbusd`` multiplies a row of up to 4 taps. Lane j of a
vector that is loaded at byte t belongs to output pixel 4 j + t: four unaligned loads make 64 pixels, without a shuffle.
With columns 2 apart, two loads at bytes 0 and 2 make 32 pixels, lane j being pixel 2 j + t.
"""

from typing import Any

from sparse_rt_kernels.between.depthwise.finish import Finish, dot
from sparse_rt_kernels.between.depthwise.layout import BLOCK
from sparse_rt_kernels.between.depthwise.sums import Taps, emit_sums
from sparse_rt_kernels.jit.compiler import cgutils, types
from sparse_rt_kernels.jit.llvm import I32, I64
from sparse_rt_kernels.vectors import simd
from sparse_rt_kernels.vectors.registers import LANES, WORDS

__all__ = ["multiply_bytes"]


@simd.emitter
def multiply_bytes(
    context: Any,
    rows: Any,
    columns: Any,
    together: Any,
    down: Any,
    step: Any,
    source: Any,
    count: Any,
    offsets: Any,
    weights: Any,
    blocks: Any,
    out: Any,
    pitch: Any,
    kind: Any,
    itemsize: Any,
    offset: Any,
    scale: Any,
    bias: Any,
    low: Any,
    high: Any,
    zero_point: Any,
) -> Any:
    """``out[p, f] = epilogue(sum over taps of weight * source[offset + step * f])`` for 64 `blocks` flat pixels f.

    Parameters
    ----------
    rows, columns, together, down
        Literal ints: :class:`sums.Taps`, a column being 4 taps.
    step
        Literal int: bytes from pixel to pixel, 1 or 2.
    source
        A plane in its :class:`layout.Layout`, unsigned.
    count, offsets, weights
        See :func:`sums.emit_sums`; a weight is 4 signed bytes.
    out, pitch
        (together, 64 blocks) outputs, rows `pitch` bytes apart.
    kind, itemsize
        Of :mod:`finish`, and the bytes of an output.
    offset, scale, bias
        Of this channel: intp, float32, float32.
    low, high
        float32 clip bounds; for bytes within what `zero_point` leaves of the output's range.
    """

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        source, count, offsets, weights, blocks, out, pitch, kind, itemsize, offset, *operands = given[5:]
        every = step.literal_value
        taps = Taps(rows.literal_value, columns.literal_value, together.literal_value, down.literal_value)
        starts = [64 * (v * every // 4) + v * every % 4 for v in range(4)]
        zero = simd.broadcast(builder, builder.trunc(offset, I32), LANES)
        finish = Finish(builder, every, operands)
        with cgutils.for_range(builder, blocks) as block:
            base = builder.add(source, builder.mul(block.index, I64(BLOCK * every)))

            def read(tap: Any, v: int) -> Any:
                place = simd.pointer(builder, builder.add(base, tap))
                return simd.load(builder, simd.element(builder, place, starts[v]), WORDS)

            sums = emit_sums(
                builder,
                taps,
                count,
                offsets,
                weights,
                I32,
                [[zero] * 4 for _ in range(taps.together)],
                read,
                lambda acc, values, held: dot(builder, acc, values, held),
            )
            at = builder.add(out, builder.mul(block.index, builder.mul(itemsize, I64(BLOCK))))
            for number, row in enumerate(sums):
                place = builder.add(at, builder.mul(pitch, I64(number)))
                finish.store(kind, row, simd.pointer(builder, place))
        return I64(0)

    floats = [types.float32] * 4
    return types.intp(rows, columns, together, down, step, *[types.intp] * 10, *floats, types.intp), generate
