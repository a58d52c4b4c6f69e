"""The register tile of a dense convolution: pixels are broadcast from where they lie in a staged image.

Each emitter is a Numba intrinsic on addresses (intp) that returns an intp: Numba may drop a call that returns nothing.
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from llvmlite import ir

from sparse_rt_kernels.jit.compiler import cgutils, types
from sparse_rt_kernels.jit.llvm import I32, I64
from sparse_rt_kernels.product.u8s8.operands import Operands
from sparse_rt_kernels.product.u8s8.requantise import Requantiser, store_planes
from sparse_rt_kernels.vectors import simd
from sparse_rt_kernels.vectors.records import fields_of
from sparse_rt_kernels.vectors.registers import FLOATS, REGISTER

__all__ = ["CHANNELS", "PIXELS", "Floats", "Row", "bytes_row", "floats_row"]

#: Output channels of a register; a tile has one or two of them.
CHANNELS: Final = 16
#: Neighbouring output pixels of a tile: 28 accumulators, and registers for two weights and a pixel.
PIXELS: Final = 14

#: Adds the product of a broadcast pixel and 16 weights to an accumulator.
_MultiplyAdd = Callable[[Any, Any, Any, Any], Any]


class Row(NamedTuple):
    """One row of output pixels of some channels: ints, or IR i64 where code is emitted.

    Attributes
    ----------
    channels
        How many are left: 32 of them are computed, or 16 if there are no more.
    image
        Address of the first word that the first pixel reads: a float, or 4 uint8.
    words, steps
        (steps,) int32: offset of each word that is reduced.
    values, block_bytes
        (steps, 16) float32, or (steps, 16, 4) int8, for each block of 16 channels, aligned, so many bytes apart.
    width
        Output pixels of the row, at least 14.
    out, stride
        First element, and bytes from channel to channel.
    """

    channels: Any
    image: Any
    words: Any
    steps: Any
    values: Any
    block_bytes: Any
    width: Any
    out: Any
    stride: Any


class Floats(NamedTuple):
    """The epilogue of floats: address of (channels,) float32, and the clip bounds."""

    bias: Any
    low: Any
    high: Any


def _sums(
    builder: Any, distance: int, row: Row, first: Any, starts: list[Any], multiply_add: _MultiplyAdd
) -> list[Any]:
    """Return the sums of the tile from pixel `first` on, [block][pixel], beginning with `starts`, one a block."""
    image = builder.add(row.image, builder.mul(first, I64(distance)))
    words, steps, values, block_bytes = row.words, row.steps, row.values, row.block_bytes
    kind = starts[0].type
    slots = [[cgutils.alloca_once_value(builder, start) for _ in range(PIXELS)] for start in starts]
    moving = [cgutils.alloca_once_value(builder, simd.pointer(builder, place)) for place in (words, values)]
    base = simd.pointer(builder, image)
    with cgutils.for_range(builder, steps):
        word, value = (builder.load(place) for place in moving)
        here = simd.element(builder, base, builder.sext(simd.load(builder, word, I32, 4), I64))
        weights = [simd.load(builder, value, kind, REGISTER)]
        if len(starts) == 2:
            weights.append(simd.load(builder, simd.element(builder, value, block_bytes), kind, REGISTER))
        for pixel in range(PIXELS):
            item = simd.load(builder, simd.element(builder, here, pixel * distance), kind.element, 4)
            x = simd.broadcast(builder, item, CHANNELS)
            for weight, block in zip(weights, slots, strict=True):
                builder.store(multiply_add(builder, x, weight, builder.load(block[pixel])), block[pixel])
        builder.store(simd.element(builder, word, 4), moving[0])
        builder.store(simd.element(builder, value, REGISTER), moving[1])
    return [[builder.load(slot) for slot in block] for block in slots]


def _each_tile(builder: Any, width: Any, generate: Callable[[Any], None]) -> None:
    """Call `generate` on the first pixel of each tile of a row; the last one computes some pixels again."""
    tiles = builder.udiv(builder.add(width, I64(PIXELS - 1)), I64(PIXELS))
    last = builder.sub(width, I64(PIXELS))
    with cgutils.for_range(builder, tiles) as loop:
        first = builder.mul(loop.index, I64(PIXELS))
        generate(builder.select(builder.icmp_signed("<", first, last), first, last))


def _one_or_two(builder: Any, channels: Any, generate: Callable[[int], None]) -> None:
    """Call `generate` on how many blocks of 16 channels a tile takes of `channels`."""
    with builder.if_else(builder.icmp_signed(">=", channels, I64(2 * CHANNELS)), likely=True) as (pair, single):
        with pair:
            generate(2)
        with single:
            generate(1)


def _dot(builder: Any, x: Any, weight: Any, total: Any) -> Any:
    return simd.dot_u8s8(builder, total, x, weight)


class _BytesOfBlock:
    """What makes bytes of the sums of one block of 16 channels."""

    def __init__(self, builder: Any, block: int, row: Row, given: Operands) -> None:
        arrays = {name: getattr(given, name) for name in ("offset", "row_sums", "scale", "bias")}
        moved = {name: builder.add(address, I64(block * REGISTER)) for name, address in arrays.items()}
        self.requantiser = Requantiser(builder, given._replace(**moved))
        self._out = builder.add(row.out, builder.mul(row.stride, I64(block * CHANNELS)))
        self._stride = row.stride

    def store(self, builder: Any, sums: list[Any], plain: bool, first: Any) -> None:
        """Store the tile from pixel `first` on, 8 pixels of a channel at a time; the second 8 overlap the first."""
        out = builder.add(self._out, first)
        for pixel in (0, PIXELS - 8):
            fours = [self.requantiser.four_rows(builder, sums[at : at + 4], plain) for at in (pixel, pixel + 4)]
            store_planes(builder, fours, out, self._stride, pixel)

    def store_sixteen(self, builder: Any, sums: list[Any], plain: bool, first: Any) -> None:
        """Store the tile from pixel `first` on, 16 pixels of a channel at a time: the next tile overwrites the last."""
        padded = sums + sums[-1:] * (16 - PIXELS)
        fours = [self.requantiser.four_rows(builder, padded[at : at + 4], plain) for at in range(0, 16, 4)]
        store_planes(builder, fours, builder.add(self._out, first), self._stride, 0)


def _emit_bytes(builder: Any, distance: int, row: Row, given: Operands, blocks: int) -> None:
    """Emit a row of pixels of 16 or 32 channels as bytes."""
    made = [_BytesOfBlock(builder, block, row, given) for block in range(blocks)]
    is_plain = made[0].requantiser.is_plain(builder)
    for other in made[1:]:
        is_plain = builder.and_(is_plain, other.requantiser.is_plain(builder))

    def tile(first: Any) -> None:
        sums = _sums(builder, distance, row, first, [one.requantiser.start for one in made], _dot)
        # Two pixels more than the tile has may be stored where another tile of the row follows.
        follows = builder.icmp_signed("<=", first, builder.sub(row.width, I64(16)))
        with builder.if_else(is_plain, likely=True) as branches:
            for branch, plain in zip(branches, (True, False), strict=True):
                with branch, builder.if_else(follows, likely=True) as (whole, last):
                    with whole:
                        for one, of_block in zip(made, sums, strict=True):
                            one.store_sixteen(builder, of_block, plain, first)
                    with last:
                        for one, of_block in zip(made, sums, strict=True):
                            one.store(builder, of_block, plain, first)

    _each_tile(builder, row.width, tile)


@simd.emitter
def bytes_row(context: Any, distance: Any, row: Any, operands: Any) -> Any:
    """``out[c, p] = requantised sum_s sum_j image[words[s] + distance p + j] * values[s, c, j]`` for a row of pixels p.

    Parameters
    ----------
    distance
        Literal int: bytes from pixel to pixel.
    row, operands
        :class:`Row` of bytes, :class:`.operands.Operands`.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        a = fields_of(builder, Row, given[1])
        end = fields_of(builder, Operands, given[2])
        _one_or_two(builder, a.channels, lambda blocks: _emit_bytes(builder, distance.literal_value, a, end, blocks))
        return I64(0)

    return types.intp(distance, row, operands), generate


def _fma(builder: Any, x: Any, weight: Any, total: Any) -> Any:
    return simd.fma(builder, x, weight, total)


def _store_floats(builder: Any, sums: list[Any], bias: Any, bounds: tuple[Any, Any], out: Any, stride: Any) -> None:
    """Store the pixels of a tile, transposed; a NaN stays NaN."""
    low, high = bounds
    # larger and smaller return their second operand if it is NaN.
    clipped = [
        simd.smaller(builder, high, simd.larger(builder, low, simd.fadd(builder, value, bias))) for value in sums
    ]
    square = clipped + clipped[-1:] * (CHANNELS - PIXELS)
    for channel, value in enumerate(simd.transpose(builder, square)):
        place = simd.pointer(builder, builder.add(out, builder.mul(stride, I64(channel))))
        simd.store_first(builder, place, value, I64(PIXELS))


def _emit_floats(builder: Any, distance: int, row: Row, given: Floats, bounds: tuple[Any, Any], blocks: int) -> None:
    """Emit a row of pixels of 16 or 32 channels as floats."""
    places = [simd.pointer(builder, builder.add(given.bias, I64(block * REGISTER))) for block in range(blocks)]
    biases = [simd.load(builder, place, FLOATS) for place in places]
    starts = [ir.Constant(FLOATS, None)] * blocks

    def tile(first: Any) -> None:
        sums = _sums(builder, distance, row, first, starts, _fma)
        to = builder.add(row.out, builder.mul(first, I64(4)))
        for block in range(blocks):
            target = builder.add(to, builder.mul(row.stride, I64(CHANNELS * block)))
            _store_floats(builder, sums[block], biases[block], bounds, target, row.stride)

    _each_tile(builder, row.width, tile)


@simd.emitter
def floats_row(context: Any, distance: Any, row: Any, operands: Any) -> Any:
    """``out[c, p] = clip(sum_s image[words[s] + distance p] * values[s, c] + bias[c])`` for a row of pixels p.

    Parameters
    ----------
    distance
        Literal int: bytes from pixel to pixel.
    row, operands
        :class:`Row` of floats, :class:`Floats`.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        a = fields_of(builder, Row, given[1])
        end = fields_of(builder, Floats, given[2])
        low, high = (simd.broadcast(builder, bound, CHANNELS) for bound in (end.low, end.high))
        far = distance.literal_value
        _one_or_two(builder, a.channels, lambda blocks: _emit_floats(builder, far, a, end, (low, high), blocks))
        return I64(0)

    return types.intp(distance, row, operands), generate
