"""SIMD float32 depthwise convolution straight from planes, for AVX-512: permutations stand for strides and padding."""

from typing import Any, NamedTuple

from llvmlite import ir

from sparse_rt_kernels.between.depthwise.operands import Floats, Planes
from sparse_rt_kernels.jit.compiler import cgutils, types
from sparse_rt_kernels.jit.llvm import F32, I16, I64
from sparse_rt_kernels.vectors import simd
from sparse_rt_kernels.vectors.records import fields_of
from sparse_rt_kernels.vectors.registers import FLOATS, LANES, MASK, WORDS

__all__ = ["PieceTables", "convolve_pieces"]


class PieceTables(NamedTuple):
    """How a plane is cut: ints, or IR i64 where code is emitted.

    Attributes
    ----------
    count
        Of a plane: up to 16 output pixels each, which are neighbours in memory.
    places, masks
        (count, size, 2) int64 bytes from the plane to the two registers that a row of the kernel reads, and uint16, a
        bit for each lane that is to be read; the others are zero.
    controls
        (count, size, 16) int32: which of the 32 lanes each pixel finds at a column of the kernel.
    outs, stores
        (count,) int64 bytes from the output plane, and uint16, a bit for each pixel.
    """

    count: Any
    places: Any
    masks: Any
    controls: Any
    outs: Any
    stores: Any


def _mask(builder: Any, place: Any) -> Any:
    """Return the lanes of a uint16."""
    return builder.bitcast(simd.load(builder, place, I16, 2), MASK)


def _loaded(builder: Any, plane: Any, tables: PieceTables, piece: Any, side: int, row: int) -> list[Any]:
    """Return the two registers that a row of the kernel reads."""
    pair = []
    for half in (2 * row, 2 * row + 1):
        moved = simd.load(builder, simd.item(builder, tables.places, piece, 16 * side, 8 * half), I64, 8)
        lanes = _mask(builder, simd.item(builder, tables.masks, piece, 4 * side, 2 * half))
        place = simd.pointer(builder, builder.add(plane, moved))
        pair.append(simd.load_masked(builder, place, FLOATS, lanes, ir.Constant(FLOATS, None)))
    return pair


@simd.emitter
def convolve_pieces(context: Any, size: Any, planes: Any, pieces: Any, weights: Any, operands: Any) -> Any:
    """``out[c] = clip(bias[c] + sum over taps (r, s) of weights[c, r, s] * permuted(source[c], r, s))``, by pieces.

    Parameters
    ----------
    size
        Literal int: rows and columns of the kernel.
    planes, pieces
        :class:`operands.Planes` and :class:`PieceTables`.
    weights
        (planes, size, size) float32.
    operands
        :class:`operands.Floats` of several channels.
    """

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        a = fields_of(builder, Planes, given[1])
        tables = fields_of(builder, PieceTables, given[2])
        end = fields_of(builder, Floats, given[4])
        side = size.literal_value
        least, most = (simd.broadcast(builder, value, LANES) for value in (end.low, end.high))

        def scalar(place: Any) -> Any:
            return simd.broadcast(builder, simd.load(builder, place, F32, 4), LANES)

        with cgutils.for_range(builder, a.count) as plane:
            taps = [
                scalar(simd.item(builder, given[3], plane.index, 4 * side * side, 4 * t)) for t in range(side * side)
            ]
            start = scalar(simd.item(builder, end.bias, plane.index, 4))
            begin = builder.add(a.source, builder.mul(plane.index, a.source_plane))
            out = builder.add(a.out, builder.mul(plane.index, a.out_plane))
            with cgutils.for_range(builder, tables.count) as piece:
                steers = [
                    simd.load(builder, simd.item(builder, tables.controls, piece.index, 64 * side, 64 * s), WORDS, 4)
                    for s in range(side)
                ]
                acc = start
                for r in range(side):
                    low, high = _loaded(builder, begin, tables, piece.index, side, r)
                    for s in range(side):
                        value = simd.permute_two_floats(builder, low, steers[s], high)
                        acc = simd.fma(builder, value, taps[r * side + s], acc)
                # larger and smaller give their second operand if either is NaN.
                value = simd.smaller(builder, most, simd.larger(builder, least, acc))
                moved = simd.load(builder, simd.item(builder, tables.outs, piece.index, 8), I64, 8)
                place = simd.pointer(builder, builder.add(out, moved))
                store = _mask(builder, simd.item(builder, tables.stores, piece.index, 2))
                simd.store_masked(builder, place, value, store)
        return I64(0)

    return types.intp(size, planes, pieces, types.intp, operands), generate
