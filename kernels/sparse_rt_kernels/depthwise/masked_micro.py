"""SIMD float32 depthwise convolution straight from planes, for AVX-512: masks stand for padding."""

from typing import Any, Final

from llvmlite import ir

from sparse_rt_kernels import simd
from sparse_rt_kernels.compiler import cgutils, types

__all__ = ["convolve_masked"]

_LANES: Final = 16
_FLOATS = simd.vector(simd.F32, _LANES)
_MASK = simd.vector(ir.IntType(1), _LANES)


def _int(value: int) -> Any:
    return ir.Constant(simd.I64, value)


@simd.emitter
def convolve_masked(
    context: Any,
    size: Any,
    careful: Any,
    planes: Any,
    source: Any,
    source_plane: Any,
    out: Any,
    pixels: Any,
    offsets: Any,
    masks: Any,
    first: Any,
    last: Any,
    weights: Any,
    bias: Any,
    low: Any,
    high: Any,
) -> Any:
    """``out[c, f] = clip(bias[c] + sum over taps t of masks[f, t] * weights[c, t] * source[c, f + offset[t]])``.

    f runs over all output pixels of a plane.

    Parameters
    ----------
    size
        Literal int: rows and columns of the kernel. Its middle column is never masked by a row's ends.
    careful
        Literal int: 0 reads vectors and masks sums, which takes what lies before and behind the plane into registers;
        1 masks what is read, at half the speed.
    planes
        How many, one after the other; those of the source are `source_plane` bytes apart.
    source, out, pixels
        out is (planes, pixels).
    offsets
        (taps,) int64, in bytes.
    masks
        (vectors, taps) uint16, a bit for each of 16 pixels.
    first, last
        Vectors from `first` to before `last` find all rows of the kernel: all its rows have the masks of the first one.
        `last` is less than the number of vectors.
    weights, bias
        (planes, taps) and (planes,) float32.
    low, high
        float32 clip bounds; NaN stays NaN.
    """

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        _, _, planes, source, source_plane, out, pixels, offsets, masks, first, last, *given = given
        weights, bias, low, high = given
        side = size.literal_value
        count = side * side
        is_careful = careful.literal_value == 1
        least, most = (simd.broadcast(builder, value, _LANES) for value in (low, high))
        # The last vector is a masked one, or a whole one.
        vectors = builder.udiv(builder.sub(pixels, _int(1)), _int(_LANES))

        def address(table: Any, number: Any, size: int) -> Any:
            return simd.pointer(builder, builder.add(table, builder.mul(number, _int(size))))

        moves = [simd.load(builder, address(offsets, _int(tap), 8), simd.I64, 8) for tap in range(count)]
        with cgutils.for_range(builder, planes) as plane:
            held = address(weights, plane.index, 4 * count)
            operands = [
                simd.broadcast(builder, simd.load(builder, simd.element(builder, held, 4 * tap), simd.F32, 4), _LANES)
                for tap in range(count)
            ]
            start = simd.broadcast(builder, simd.load(builder, address(bias, plane.index, 4), simd.F32, 4), _LANES)
            begin = builder.add(source, builder.mul(plane.index, source_plane))
            end = builder.add(out, builder.mul(plane.index, builder.mul(pixels, _int(4))))

            def mask(row: Any, tap: int) -> Any:
                bits = simd.load(builder, simd.element(builder, row, 2 * tap), ir.IntType(16), 2)
                return builder.bitcast(bits, _MASK)

            def value_of(
                vector: Any, finds_all: bool, begin: Any = begin, start: Any = start, operands: Any = operands
            ) -> Any:
                at = builder.add(begin, builder.mul(vector, _int(64)))
                row = address(masks, vector, 2 * count)
                acc = start
                for tap in range(count):
                    place = simd.pointer(builder, builder.add(at, moves[tap]))
                    if finds_all and tap % side == side // 2 and not is_careful:
                        acc = simd.fma(builder, simd.load(builder, place, _FLOATS, 4), operands[tap], acc)
                        continue
                    lanes = mask(row, tap % side if finds_all else tap)
                    if is_careful:
                        value = simd.load_masked(builder, place, _FLOATS, lanes, ir.Constant(_FLOATS, None))
                    else:
                        value = simd.load(builder, place, _FLOATS, 4)
                    acc = builder.select(lanes, simd.fma(builder, value, operands[tap], acc), acc)
                # larger and smaller give their second operand if either is NaN.
                return simd.smaller(builder, most, simd.larger(builder, least, acc))

            for begins, ends, finds_all in ((_int(0), first, False), (first, last, True), (last, vectors, False)):
                with cgutils.for_range_slice(builder, begins, ends, _int(1), simd.I64, inc=True) as (vector, _):
                    simd.store(builder, address(end, vector, 64), value_of(vector, finds_all), 4)
            rest = builder.sub(pixels, builder.mul(vectors, _int(_LANES)))
            simd.store_first(builder, address(end, vectors, 64), value_of(vectors, False), rest)
        return _int(0)

    return types.intp(size, careful, *[types.intp] * 11, types.float32, types.float32), generate
