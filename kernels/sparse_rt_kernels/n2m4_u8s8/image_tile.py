"""The register tile of a convolution: pixels are read where they lie in an octet image, and leave as bytes.

Like every emitter of this family it returns an intp: Numba may drop a call that returns nothing.
"""

from typing import Any

from llvmlite import ir

from sparse_rt_kernels import simd
from sparse_rt_kernels.compiler import cgutils, types
from sparse_rt_kernels.n2m4_u8s8.fused import Requantiser, store_planes
from sparse_rt_kernels.n2m4_u8s8.layout import CHANNELS, STEP

__all__ = ["FEW_RUNS", "PIXELS", "PLACES_BYTES", "image_tiles"]

#: Pixels of a full tile, one accumulator each: 4 runs of 7 neighbours in the octet image, or 7 runs of 4.
PIXELS = 28
#: Runs of the tile for what is left over, by the pixels of a run.
FEW_RUNS = {7: 3, 4: 4}
#: Bytes of a tile's entry in a list: the places of up to 7 runs, and of the first output.
PLACES_BYTES = 64

_WORDS = simd.vector(simd.I32, CHANNELS)
_BYTES = simd.vector(simd.I8, 64)
_REGISTER = 64


def _int(value: int) -> Any:
    return ir.Constant(simd.I64, value)


def _multiply(
    builder: Any, slots: list[Any], runs: list[Any], words: Any, values: Any, controls: Any, steps: Any
) -> None:
    """Add all steps to the accumulators; call the next block's values into L2, see :func:`micro.multiply_loop`."""
    length = len(slots) // len(runs)
    moving = [cgutils.alloca_once_value(builder, simd.pointer(builder, each)) for each in (words, values, controls)]
    with cgutils.for_range(builder, steps):
        word, value, control = (builder.load(place) for place in moving)
        offset = builder.sext(simd.load(builder, word, simd.I32, 4), simd.I64)
        weight = simd.load(builder, value, _WORDS, _REGISTER)
        chosen = simd.load(builder, control, _BYTES, _REGISTER)
        simd.prefetch(builder, simd.element(builder, value, builder.mul(steps, _int(_REGISTER))))
        for pixel, slot in enumerate(slots):
            place = simd.element(builder, runs[pixel // length], offset)
            octet = simd.load(builder, simd.element(builder, place, pixel % length * STEP), simd.I64, STEP)
            lanes = simd.bitcast(builder, simd.broadcast(builder, octet, 8), _BYTES)
            picked = simd.bitcast(builder, simd.shuffle_bytes(builder, lanes, chosen), _WORDS)
            builder.store(simd.dot_u8s8(builder, builder.load(slot), picked, weight), slot)
        for place, pointer, size in zip(moving, (word, value, control), (4, _REGISTER, _REGISTER), strict=True):
            builder.store(simd.element(builder, pointer, size), place)


def _store(builder: Any, requantiser: Requantiser, sums: list[Any], plain: bool, out: Any, stride: Any) -> None:
    """Requantise and store the tile, 16 pixels of a channel at a time; the second 16 overlap the first."""
    pixels = len(sums)
    fours: dict[int, Any] = {}
    for first in sorted({0, pixels - 16}):
        for pixel in range(first, first + 16, 4):
            if pixel not in fours:
                fours[pixel] = requantiser.four_rows(builder, sums[pixel : pixel + 4], plain)
        store_planes(builder, [fours[pixel] for pixel in range(first, first + 16, 4)], out, stride, first)


@simd.emitter
def image_tiles(
    context: Any,
    length: Any,
    runs: Any,
    places: Any,
    end: Any,
    base: Any,
    words: Any,
    values: Any,
    controls: Any,
    steps: Any,
    out: Any,
    stride: Any,
    offset: Any,
    row_sums: Any,
    shift: Any,
    scale: Any,
    bias: Any,
    low: Any,
    high: Any,
    zero_point: Any,
    sign: Any,
) -> Any:
    """``out[c, p] = requantised sum_s sum_j image[place(p) + words[s] + control[s, c, j]] * values[s, c, j]``.

    For each tile of a list: 16 channels c and runs of pixels p that lie side by side in the image, ``place(length * i +
    q) = base + places[i] + 8 q``. Outputs of a tile are neighbours: ``out + places[7] + c * stride + p``.

    Parameters
    ----------
    length, runs
        Literal ints: pixels of a run, and runs; 16 to 28 pixels in all.
    places, end
        First and last address of the list: (tiles, 8) int64.
    words
        (steps,) int32: offset of each step's 8 reduction elements, one octet.
    values, controls, steps
        As for :func:`micro.tile`, `controls` expanded.
    out, stride
        Where places of outputs count from, and bytes from channel to channel.
    offset, row_sums, shift, scale, bias, low, high, zero_point, sign
        As for :func:`fused.tiles_to_bytes`.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        places, end, base, words, values, controls, steps, out, stride, offset, row_sums, shift, *operands = given[2:]
        correction = simd.load(builder, simd.pointer(builder, row_sums), _WORDS)
        shifts = simd.broadcast(builder, builder.trunc(shift, simd.I32), CHANNELS)
        start = simd.load(builder, simd.pointer(builder, offset), _WORDS)
        start = simd.subtract(builder, start, simd.multiply(builder, correction, shifts))
        requantiser = Requantiser(builder, operands)
        is_plain = requantiser.is_plain(builder)
        count = runs.literal_value
        slots = [cgutils.alloca_once(builder, _WORDS) for _ in range(count * length.literal_value)]
        step = _int(PLACES_BYTES)
        with cgutils.for_range_slice(builder, places, end, step, simd.I64, inc=True) as (place, _):
            entry = simd.pointer(builder, place)
            held = [simd.load(builder, simd.element(builder, entry, 8 * slot), simd.I64, 8) for slot in range(8)]
            for slot in slots:
                builder.store(start, slot)
            pointers = [simd.pointer(builder, builder.add(base, each)) for each in held[:count]]
            _multiply(builder, slots, pointers, words, values, controls, steps)
            sums = [builder.load(slot) for slot in slots]
            first = builder.add(out, held[7])
            with builder.if_else(is_plain, likely=True) as (plain, general):
                with plain:
                    _store(builder, requantiser, sums, True, first, stride)
                with general:
                    _store(builder, requantiser, sums, False, first, stride)
        return _int(0)

    operands = [*[types.intp] * 5, types.float32, types.float32, types.intp, types.intp]
    return types.intp(length, runs, *[types.intp] * 9, *operands), generate
