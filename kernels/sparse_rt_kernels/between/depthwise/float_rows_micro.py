"""SIMD float32 depthwise convolution of several output rows at once, for AVX-512: they share what they load."""

from typing import Any, Final

from llvmlite import ir

from sparse_rt_kernels.jit.compiler import cgutils, types
from sparse_rt_kernels.jit.llvm import F32, I16, I32, I64
from sparse_rt_kernels.vectors import simd
from sparse_rt_kernels.vectors.registers import FLOATS, LANES, MASK

__all__ = ["convolve_rows"]

#: Rows and columns of the kernel.
_SIDE: Final = 3


def _at(builder: Any, table: Any, number: Any, size: int, offset: int = 0) -> Any:
    place = builder.add(table, builder.mul(number, I64(size)))
    return simd.pointer(builder, builder.add(place, I64(offset)))


def _columns(builder: Any, stride: int, place: Any, masks: list[Any]) -> list[Any]:
    """Return what each column of the kernel reads of one input row, picked from one or two registers."""
    zero = ir.Constant(FLOATS, None)
    loaded = [
        simd.load_masked(builder, simd.element(builder, place, 4 * LANES * number), FLOATS, mask, zero)
        for number, mask in enumerate(masks)
    ]
    # Lanes beyond a piece's pixels are anything.
    controls = [
        simd.constant(I32, [(stride * lane + s) % (stride * LANES) for lane in range(LANES)]) for s in range(_SIDE)
    ]
    if stride == 1:
        return [loaded[0], *(simd.permute(builder, loaded[0], control) for control in controls[1:])]
    return [simd.permute_two_floats(builder, loaded[0], control, loaded[1]) for control in controls]


@simd.emitter
def convolve_rows(
    context: Any,
    together: Any,
    down: Any,
    planes: Any,
    source: Any,
    source_plane: Any,
    out: Any,
    out_plane: Any,
    height: Any,
    width: Any,
    out_height: Any,
    out_width: Any,
    top: Any,
    pieces: Any,
    places: Any,
    masks: Any,
    zeros: Any,
    weights: Any,
    bias: Any,
    low: Any,
    high: Any,
) -> Any:
    """``out[c] = clip(bias[c] + sum over taps (r, s) of weights[c, r, s] * source[c, down p + r - top, ...])``, 3x3.

    Parameters
    ----------
    together, down
        Literal ints: output rows p that are computed together, no more than there are, and the stride, 1 or 2.
    planes, source, source_plane, out, out_plane
        How many, and bytes from plane to plane.
    height, width, out_height, out_width, top
        Of planes, and the rows of padding above.
    pieces
        Parts of an output row: up to 14 pixels of a register each, or 15 of two if `down` is 2. One load and two
        permutations take less than three loads of which most cross cache lines.
    places, masks
        (pieces, 2) int64: bytes from the row's first item to what the first column of the kernel reads, and to the
        output; (pieces, 4) uint16: which lanes of the registers that are loaded lie within the row; and last, which
        lanes are output.
    zeros
        As many bytes as a row has, and some more: what lies above and below a plane.
    weights, bias
        (planes, 3, 3) and (planes,) float32.
    low, high
        float32 clip bounds; NaN stays NaN.
    """

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        _, _, planes, source, source_plane, out, out_plane, height, width, out_height, out_width, top, *given = given
        pieces, places, masks, zeros, weights, bias, low, high = given
        rows, stride = together.literal_value, down.literal_value
        least, most = (simd.broadcast(builder, value, LANES) for value in (low, high))
        pitch, out_pitch = (builder.mul(size, I64(4)) for size in (width, out_width))
        groups = builder.udiv(builder.add(out_height, I64(rows - 1)), I64(rows))
        last_first = builder.sub(out_height, I64(rows))

        def scalar(place: Any) -> Any:
            return simd.broadcast(builder, simd.load(builder, place, F32, 4), LANES)

        def mask(piece: Any, number: int) -> Any:
            return builder.bitcast(simd.load(builder, _at(builder, masks, piece, 8, 2 * number), I16, 2), MASK)

        with cgutils.for_range(builder, planes) as plane:
            held = builder.add(weights, builder.mul(plane.index, I64(4 * _SIDE * _SIDE)))
            operands = [scalar(_at(builder, held, I64(tap), 4)) for tap in range(_SIDE * _SIDE)]
            start = scalar(_at(builder, bias, plane.index, 4))
            begin = builder.add(source, builder.mul(plane.index, source_plane))
            end = builder.add(out, builder.mul(plane.index, out_plane))
            with cgutils.for_range(builder, groups) as group:
                # The last group begins early enough to be whole: it computes some rows again.
                first = builder.mul(group.index, I64(rows))
                first = builder.select(builder.icmp_signed("<", first, last_first), first, last_first)
                above = builder.sub(builder.mul(first, I64(stride)), top)
                sources = []
                for number in range((rows - 1) * stride + _SIDE):
                    row = builder.add(above, I64(number))
                    inside = builder.icmp_unsigned("<", row, height)
                    sources.append(builder.select(inside, builder.add(begin, builder.mul(row, pitch)), zeros))
                target = builder.add(end, builder.mul(first, out_pitch))
                with cgutils.for_range(builder, pieces) as piece:
                    moved, shifted = (
                        simd.load(builder, _at(builder, places, piece.index, 16, 8 * part), I64, 8) for part in (0, 1)
                    )
                    lanes = [mask(piece.index, number) for number in range(stride)]
                    sums = [start] * rows
                    for number, address in enumerate(sources):
                        place = simd.pointer(builder, builder.add(address, moved))
                        values = _columns(builder, stride, place, lanes)
                        for p in range(rows):
                            r = number - p * stride
                            if 0 <= r < _SIDE:
                                for s, value in enumerate(values):
                                    sums[p] = simd.fma(builder, value, operands[_SIDE * r + s], sums[p])
                    store = mask(piece.index, _SIDE)
                    for p, total in enumerate(sums):
                        # larger and smaller give their second operand if either is NaN.
                        value = simd.smaller(builder, most, simd.larger(builder, least, total))
                        place = builder.add(target, builder.add(builder.mul(out_pitch, I64(p)), shifted))
                        simd.store_masked(builder, simd.pointer(builder, place), value, store)
        return I64(0)

    return types.intp(together, down, *[types.intp] * 16, types.float32, types.float32), generate
