"""The register tile of a convolution: pixels are read where they lie in an NCHWc8 image, and leave as bytes.

Like every emitter of this family it returns an intp: Numba may drop a call that returns nothing.
"""

from typing import Any, NamedTuple

from sparse_rt_kernels.jit.compiler import cgutils, types
from sparse_rt_kernels.jit.llvm import I32, I64
from sparse_rt_kernels.n2m4_u8s8.tile.nchwc8_store import (
    PLANES,
    store_blocks,
    store_in_planes,
)
from sparse_rt_kernels.n2m4_u8s8.tile.rows import multiply_step
from sparse_rt_kernels.product.u8s8.operands import Operands
from sparse_rt_kernels.product.u8s8.requantise import Requantiser
from sparse_rt_kernels.product.u8s8.sizes import STEP
from sparse_rt_kernels.vectors import simd
from sparse_rt_kernels.vectors.records import fields_of
from sparse_rt_kernels.vectors.registers import BYTES, REGISTER, WORDS

__all__ = ["FEW_RUNS", "OUT_PLACES", "PIXELS", "PLACES_BYTES", "Image", "Tiles", "nchwc8_tiles"]

#: Pixels of a full tile, one accumulator each: 4 runs of 7 neighbours in the image, or 7 runs of 4.
PIXELS = 28
#: Runs of the tile for what is left over, by the pixels of a run.
FEW_RUNS = {7: 3, 4: 4}
#: Bytes of a tile's entry in a list: the places of up to 7 runs in the image, and from byte 64 on in the output.
PLACES_BYTES = 128
OUT_PLACES = 64


class Image(NamedTuple):
    """What tiles of a convolution read.

    Attributes
    ----------
    base
        Where places of pixels count from.
    words
        (steps,) int32: offset of each step's 8 reduction elements, one octet.
    values, controls, steps
        As in :class:`.rows.Expanded`.
    """

    base: Any
    words: Any
    values: Any
    controls: Any
    steps: Any


class Tiles(NamedTuple):
    """A list of tiles, and where its outputs go.

    Attributes
    ----------
    places, end
        First and last address of the list: (tiles, 16) int64.
    out, stride
        Where places of outputs count from, and bytes from channel to channel, or from block of channels to block.
    """

    places: Any
    end: Any
    out: Any
    stride: Any


def _multiply(builder: Any, slots: list[Any], runs: list[Any], distance: int, image: Image) -> None:
    """Add all steps to the accumulators; call the next block's values into L2, see :func:`.rows.multiply_loop`."""
    length = len(slots) // len(runs)
    pointers = (image.words, image.values, image.controls)
    moving = [cgutils.alloca_once_value(builder, simd.pointer(builder, each)) for each in pointers]
    with cgutils.for_range(builder, image.steps):
        word, value, control = (builder.load(place) for place in moving)
        offset = builder.sext(simd.load(builder, word, I32, 4), I64)
        weight = simd.load(builder, value, WORDS, REGISTER)
        chosen = simd.load(builder, control, BYTES, REGISTER)
        simd.prefetch(builder, simd.element(builder, value, builder.mul(image.steps, I64(REGISTER))))
        starts = [simd.element(builder, run, offset) for run in runs]
        places = [simd.element(builder, start, pixel * distance) for start in starts for pixel in range(length)]
        multiply_step(builder, slots, places, weight, chosen, 1)
        for place, pointer, size in zip(moving, (word, value, control), (4, REGISTER, REGISTER), strict=True):
            builder.store(simd.element(builder, pointer, size), place)


def _places(builder: Any, entry: Any, first: int, count: int) -> list[Any]:
    return [simd.load(builder, simd.element(builder, entry, first + 8 * run), I64, 8) for run in range(count)]


def _call_next(builder: Any, runs: list[Any], pixels: int, base: Any, stride: Any) -> None:
    """Call into L1 where the next tile of `pixels` pixels will store blocks.

    That is where runs go on, or near it; tiles of few steps do not hide what the last cache takes.
    """
    for run in runs:
        here = builder.add(builder.add(base, run), I64(pixels * STEP))
        for place in (here, builder.add(here, stride)):
            simd.prefetch(builder, simd.pointer(builder, place), 1, True)


@simd.emitter
def nchwc8_tiles(
    context: Any, length: Any, runs: Any, distance: Any, ending: Any, tiles: Any, image: Any, operands: Any
) -> Any:
    """``out[c, p] = requantised sum_s sum_j image[place(p) + words[s] + control[s, c, j]] * values[s, c, j]``.

    For each tile of a list: 16 channels c and runs of pixels p that lie side by side in the image, ``place(length * i +
    q) = base + places[i] + distance * q``. Outputs of a tile are neighbours: ``out + places[8] + c * stride + p``; in
    blocks of 8 channels, those of a run are: ``out + places[8 + i] + c // 8 * stride + 8 q + c % 8``.

    Parameters
    ----------
    length, runs
        Literal ints: pixels of a run, and runs; 16 to 28 pixels in all.
    distance
        Literal int: bytes from pixel to pixel of the image, 8 or, if every second one is read, 16.
    ending
        Literal int: of :mod:`.nchwc8_store`.
    tiles, image
        :class:`Tiles` and :class:`Image`.
    operands
        :class:`.operands.Operands` of 16 channels; blocks of channels are unsigned, whatever their sign.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        listed, read = fields_of(builder, Tiles, given[4]), fields_of(builder, Image, given[5])
        requantiser = Requantiser(builder, fields_of(builder, Operands, given[6]))
        is_plain = requantiser.is_plain(builder)
        count = runs.literal_value
        slots = [cgutils.alloca_once(builder, WORDS) for _ in range(count * length.literal_value)]

        def store(entry: Any, plain: bool) -> None:
            sums = [builder.load(slot) for slot in slots]
            if ending.literal_value == PLANES:
                first = simd.load(builder, simd.element(builder, entry, OUT_PLACES), I64, 8)
                store_in_planes(builder, requantiser, sums, plain, builder.add(listed.out, first), listed.stride)
            else:
                outs = [builder.add(listed.out, each) for each in _places(builder, entry, OUT_PLACES, count)]
                store_blocks(builder, requantiser, sums, plain, outs, listed.stride)

        step = I64(PLACES_BYTES)
        with cgutils.for_range_slice(builder, listed.places, listed.end, step, I64, inc=True) as (place, _):
            entry = simd.pointer(builder, place)
            for slot in slots:
                builder.store(requantiser.start, slot)
            if ending.literal_value != PLANES:
                _call_next(builder, _places(builder, entry, OUT_PLACES, count), len(slots), listed.out, listed.stride)
            starts = [simd.pointer(builder, builder.add(read.base, each)) for each in _places(builder, entry, 0, count)]
            _multiply(builder, slots, starts, distance.literal_value, read)
            with builder.if_else(is_plain, likely=True) as (plain, general):
                with plain:
                    store(entry, True)
                with general:
                    store(entry, False)
        return I64(0)

    return types.intp(length, runs, distance, ending, tiles, image, operands), generate
