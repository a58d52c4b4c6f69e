"""SIMD blocks of the float32 depthwise convolution: 64 output pixels of one channel at a time."""

from typing import Any

from sparse_rt_kernels.between.depthwise.layout import BLOCK
from sparse_rt_kernels.between.depthwise.sums import Taps, emit_sums
from sparse_rt_kernels.jit.compiler import cgutils, types
from sparse_rt_kernels.jit.llvm import F32, I64
from sparse_rt_kernels.vectors import simd
from sparse_rt_kernels.vectors.registers import FLOATS, LANES

__all__ = ["multiply_floats"]


@simd.emitter
def multiply_floats(
    context: Any,
    rows: Any,
    columns: Any,
    together: Any,
    down: Any,
    source: Any,
    count: Any,
    offsets: Any,
    weights: Any,
    blocks: Any,
    out: Any,
    pitch: Any,
    bias: Any,
    low: Any,
    high: Any,
) -> Any:
    """``out[p, f] = clip(bias + sum over taps of weight * source[offset + f])`` for 64 `blocks` flat pixels f.

    Parameters
    ----------
    rows, columns, together, down
        Literal ints: :class:`sums.Taps`.
    source
        A plane in its :class:`layout.Layout`, columns of a stride separated.
    count, offsets, weights
        See :func:`sums.emit_sums`; a weight is a float32.
    out, pitch
        (together, 64 blocks) outputs, rows `pitch` bytes apart.
    bias, low, high
        float32: of this channel, and the clip bounds. NaN stays NaN.
    """

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        source, count, offsets, weights, blocks, out, pitch, *operands = given[4:]
        taps = Taps(rows.literal_value, columns.literal_value, together.literal_value, down.literal_value)
        # Rows computed together share what they read: one vector of each is enough to hide an FMA's latency.
        vectors = max(1, 4 // taps.together)
        start, least, most = (simd.broadcast(builder, value, LANES) for value in operands)
        pieces = builder.mul(blocks, I64(BLOCK // LANES // vectors))
        with cgutils.for_range(builder, pieces) as piece:
            at = builder.mul(piece.index, I64(64 * vectors))
            base = builder.add(source, at)

            def read(tap: Any, v: int) -> Any:
                place = simd.pointer(builder, builder.add(base, tap))
                return simd.load(builder, simd.element(builder, place, 64 * v), FLOATS)

            sums = emit_sums(
                builder,
                taps,
                count,
                offsets,
                weights,
                F32,
                [[start] * vectors for _ in range(taps.together)],
                read,
                lambda acc, values, held: simd.fma(builder, values, held, acc),
            )
            for number, row in enumerate(sums):
                place = simd.pointer(builder, builder.add(builder.add(out, at), builder.mul(pitch, I64(number))))
                for v, acc in enumerate(row):
                    # larger and smaller give their second operand if either is NaN.
                    value = simd.smaller(builder, most, simd.larger(builder, least, acc))
                    simd.store(builder, simd.element(builder, place, 64 * v), value)
        return I64(0)

    return types.intp(rows, columns, together, down, *[types.intp] * 7, *[types.float32] * 3), generate
