"""SIMD float32 depthwise convolution of several output rows at once, for AVX-512: they share what they load."""

from typing import Any, Final, NamedTuple

from llvmlite import ir

from sparse_rt_kernels.between.depthwise.operands import Floats, Planes
from sparse_rt_kernels.jit.compiler import cgutils, types
from sparse_rt_kernels.jit.llvm import F32, I16, I32, I64
from sparse_rt_kernels.vectors import simd
from sparse_rt_kernels.vectors.records import fields_of
from sparse_rt_kernels.vectors.registers import FLOATS, LANES, MASK

__all__ = ["Image", "RowPieces", "convolve_rows"]

#: Rows and columns of the kernel.
_SIDE: Final = 3


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


class Image(NamedTuple):
    """The sizes of planes and of their results: ints, or IR i64 where code is emitted.

    Attributes
    ----------
    height, width, out_height, out_width
        Of planes.
    top
        Rows of padding above.
    zeros
        Address of as many bytes as a row has, and some more: what lies above and below a plane.
    """

    height: Any
    width: Any
    out_height: Any
    out_width: Any
    top: Any
    zeros: Any


class RowPieces(NamedTuple):
    """How an output row is cut: ints, or IR i64 where code is emitted.

    Attributes
    ----------
    count
        Parts: up to 14 pixels of a register each, or 15 of two if the stride is 2. One load and two permutations take
        less than three loads of which most cross cache lines.
    places, masks
        (count, 2) int64: bytes from the row's first item to what the first column of the kernel reads, and to the
        output; (count, 4) uint16: which lanes of the registers that are loaded lie within the row; and last, which
        lanes are output.
    """

    count: Any
    places: Any
    masks: Any

    def mask(self, builder: Any, piece: Any, number: int) -> Any:
        """Emit the lanes of mask `number` of a piece."""
        return builder.bitcast(simd.load(builder, simd.item(builder, self.masks, piece, 8, 2 * number), I16, 2), MASK)

    def moved(self, builder: Any, piece: Any, part: int) -> Any:
        """Emit place `part` of a piece."""
        return simd.load(builder, simd.item(builder, self.places, piece, 16, 8 * part), I64, 8)


def _source_rows(builder: Any, image: Image, plane: Any, above: Any, count: int) -> list[Any]:
    """Return the addresses of `count` input rows, the first of which is row `above`; those outside are zeros."""
    sources = []
    for number in range(count):
        row = builder.add(above, I64(number))
        inside = builder.icmp_unsigned("<", row, image.height)
        place = builder.add(plane, builder.mul(row, builder.mul(image.width, I64(4))))
        sources.append(builder.select(inside, place, image.zeros))
    return sources


def _row_sums(
    builder: Any, stride: int, sources: list[Any], moved: Any, lanes: list[Any], sums: list[Any], taps: list[Any]
) -> list[Any]:
    """Return the sums of a piece of several output rows, beginning with `sums`; `sources` are input rows."""
    sums = list(sums)
    for number, address in enumerate(sources):
        place = simd.pointer(builder, builder.add(address, moved))
        values = _columns(builder, stride, place, lanes)
        for p in range(len(sums)):
            r = number - p * stride
            if 0 <= r < _SIDE:
                for s, value in enumerate(values):
                    sums[p] = simd.fma(builder, value, taps[_SIDE * r + s], sums[p])
    return sums


@simd.emitter
def convolve_rows(
    context: Any, together: Any, down: Any, planes: Any, image: Any, pieces: Any, weights: Any, operands: Any
) -> Any:
    """``out[c] = clip(bias[c] + sum over taps (r, s) of weights[c, r, s] * source[c, down p + r - top, ...])``, 3x3.

    Parameters
    ----------
    together, down
        Literal ints: output rows p that are computed together, no more than there are, and the stride, 1 or 2.
    planes, image, pieces
        :class:`operands.Planes`, :class:`Image`, :class:`RowPieces`.
    weights
        (planes, 3, 3) float32.
    operands
        :class:`operands.Floats` of several channels.
    """

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        a = fields_of(builder, Planes, given[2])
        size = fields_of(builder, Image, given[3])
        tables = fields_of(builder, RowPieces, given[4])
        end = fields_of(builder, Floats, given[6])
        rows, stride = together.literal_value, down.literal_value
        least, most = (simd.broadcast(builder, value, LANES) for value in (end.low, end.high))
        out_pitch = builder.mul(size.out_width, I64(4))
        groups = builder.udiv(builder.add(size.out_height, I64(rows - 1)), I64(rows))
        last_first = builder.sub(size.out_height, I64(rows))

        def scalar(place: Any) -> Any:
            return simd.broadcast(builder, simd.load(builder, place, F32, 4), LANES)

        with cgutils.for_range(builder, a.count) as plane:
            held = builder.add(given[5], builder.mul(plane.index, I64(4 * _SIDE * _SIDE)))
            taps = [scalar(simd.item(builder, held, I64(tap), 4)) for tap in range(_SIDE * _SIDE)]
            start = scalar(simd.item(builder, end.bias, plane.index, 4))
            begin = builder.add(a.source, builder.mul(plane.index, a.source_plane))
            out = builder.add(a.out, builder.mul(plane.index, a.out_plane))
            with cgutils.for_range(builder, groups) as group:
                # The last group begins early enough to be whole: it computes some rows again.
                first = builder.mul(group.index, I64(rows))
                first = builder.select(builder.icmp_signed("<", first, last_first), first, last_first)
                above = builder.sub(builder.mul(first, I64(stride)), size.top)
                sources = _source_rows(builder, size, begin, above, (rows - 1) * stride + _SIDE)
                target = builder.add(out, builder.mul(first, out_pitch))
                with cgutils.for_range(builder, tables.count) as piece:
                    moved, shifted = (tables.moved(builder, piece.index, part) for part in (0, 1))
                    lanes = [tables.mask(builder, piece.index, number) for number in range(stride)]
                    sums = _row_sums(builder, stride, sources, moved, lanes, [start] * rows, taps)
                    store = tables.mask(builder, piece.index, _SIDE)
                    for p, total in enumerate(sums):
                        # larger and smaller give their second operand if either is NaN.
                        value = simd.smaller(builder, most, simd.larger(builder, least, total))
                        place = builder.add(target, builder.add(builder.mul(out_pitch, I64(p)), shifted))
                        simd.store_masked(builder, simd.pointer(builder, place), value, store)
        return I64(0)

    return types.intp(together, down, planes, image, pieces, types.intp, operands), generate
