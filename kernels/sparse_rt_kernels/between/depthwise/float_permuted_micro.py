"""SIMD float32 depthwise convolution straight from planes, for AVX-512: permutations stand for strides and padding."""

from typing import Any

from llvmlite import ir

from sparse_rt_kernels.jit.compiler import cgutils, types
from sparse_rt_kernels.jit.llvm import F32, I16, I64
from sparse_rt_kernels.vectors import simd
from sparse_rt_kernels.vectors.registers import FLOATS, LANES, MASK, WORDS

__all__ = ["convolve_pieces"]


def _at(builder: Any, table: Any, number: Any, size: int, offset: int = 0) -> Any:
    place = builder.add(table, builder.mul(number, I64(size)))
    return simd.pointer(builder, builder.add(place, I64(offset)))


@simd.emitter
def convolve_pieces(
    context: Any,
    size: Any,
    planes: Any,
    source: Any,
    source_plane: Any,
    out: Any,
    out_plane: Any,
    pieces: Any,
    places: Any,
    masks: Any,
    controls: Any,
    outs: Any,
    stores: Any,
    weights: Any,
    bias: Any,
    low: Any,
    high: Any,
) -> Any:
    """``out[c] = clip(bias[c] + sum over taps (r, s) of weights[c, r, s] * permuted(source[c], r, s))``, by pieces.

    Parameters
    ----------
    size
        Literal int: rows and columns of the kernel.
    planes, source, source_plane, out, out_plane
        How many, and bytes from plane to plane.
    pieces
        Of a plane: up to 16 output pixels each, which are neighbours in memory.
    places, masks
        (pieces, size, 2) int64 bytes from the plane to the two registers that a row of the kernel reads, and uint16, a
        bit for each lane that is to be read; the others are zero.
    controls
        (pieces, size, 16) int32: which of the 32 lanes each pixel finds at a column of the kernel.
    outs, stores
        (pieces,) int64 bytes from the output plane, and uint16, a bit for each pixel.
    weights, bias
        (planes, size, size) and (planes,) float32.
    low, high
        float32 clip bounds; NaN stays NaN.
    """

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        _, planes, source, source_plane, out, out_plane, pieces, places, masks, controls, *given = given
        outs, stores, weights, bias, low, high = given
        side = size.literal_value
        least, most = (simd.broadcast(builder, value, LANES) for value in (low, high))

        def scalar(place: Any) -> Any:
            return simd.broadcast(builder, simd.load(builder, place, F32, 4), LANES)

        def mask(place: Any) -> Any:
            return builder.bitcast(simd.load(builder, place, I16, 2), MASK)

        with cgutils.for_range(builder, planes) as plane:
            operands = [scalar(_at(builder, weights, plane.index, 4 * side * side, 4 * t)) for t in range(side * side)]
            start = scalar(_at(builder, bias, plane.index, 4))
            begin = builder.add(source, builder.mul(plane.index, source_plane))
            end = builder.add(out, builder.mul(plane.index, out_plane))
            with cgutils.for_range(builder, pieces) as piece:
                steers = [
                    simd.load(builder, _at(builder, controls, piece.index, 64 * side, 64 * s), WORDS, 4)
                    for s in range(side)
                ]
                acc = start
                for r in range(side):
                    pair = []
                    for half in (2 * r, 2 * r + 1):
                        moved = simd.load(builder, _at(builder, places, piece.index, 16 * side, 8 * half), I64, 8)
                        lanes = mask(_at(builder, masks, piece.index, 4 * side, 2 * half))
                        place = simd.pointer(builder, builder.add(begin, moved))
                        pair.append(simd.load_masked(builder, place, FLOATS, lanes, ir.Constant(FLOATS, None)))
                    for s in range(side):
                        value = simd.permute_two_floats(builder, pair[0], steers[s], pair[1])
                        acc = simd.fma(builder, value, operands[r * side + s], acc)
                # larger and smaller give their second operand if either is NaN.
                value = simd.smaller(builder, most, simd.larger(builder, least, acc))
                moved = simd.load(builder, _at(builder, outs, piece.index, 8), I64, 8)
                place = simd.pointer(builder, builder.add(end, moved))
                simd.store_masked(builder, place, value, mask(_at(builder, stores, piece.index, 2)))
        return I64(0)

    return types.intp(size, *[types.intp] * 13, types.float32, types.float32), generate
