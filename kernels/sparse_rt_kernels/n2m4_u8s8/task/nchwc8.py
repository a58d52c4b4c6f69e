"""The tasks of a convolution over NCHWc8 images: stage a part of the input, multiply it with the weight, store bytes.

No panel is packed: tiles read the image itself, wherever each kernel element falls. Nor is anything staged where the
input is in blocks of 8 channels already.
"""

import functools
from typing import Any

import numpy as np

from sparse_rt_kernels.jit.compilation import TaskFunction, kernel_jit
from sparse_rt_kernels.jit.compiler import carray
from sparse_rt_kernels.n2m4_u8s8.blocking.nchwc8 import ImageNumbers
from sparse_rt_kernels.n2m4_u8s8.task.nchwc8_staging import stage_rows
from sparse_rt_kernels.n2m4_u8s8.tile.nchwc8 import (
    FEW_RUNS,
    OUT_PLACES,
    PIXELS,
    PLACES_BYTES,
    Image,
    Tiles,
    nchwc8_tiles,
)
from sparse_rt_kernels.n2m4_u8s8.tile.rows import expand_index
from sparse_rt_kernels.product.u8s8.memory import fill_bytes, put_octet
from sparse_rt_kernels.product.u8s8.operands import OPERAND_FIELDS, operands_in, operands_of
from sparse_rt_kernels.product.u8s8.sizes import CHANNELS, STEP
from sparse_rt_kernels.vectors.registers import REGISTER

__all__ = ["NCHWC8", "nchwc8_task"]

_FEW_SEVENS, _FEW_FOURS = FEW_RUNS[7], FEW_RUNS[4]

#: `images` images of `channels` channels, cut into `units` units each, of which `row_parts` ranges are tasks. `pad` is
#: 8 bytes of padding in the domain that `flip` shifts to. The others are :class:`.blocking.nchwc8.ImageNumbers`, the
#: weight, :class:`.operands.Operands`, offsets into a thread's scratch memory, and where outputs lie: `out_block` is
#: from 16 channels to the next 16, `out_plane` what a tile takes as stride; around the planes lies a border of
#: `out_pad` if there is one.
NCHWC8 = np.dtype(
    [
        *((name, "i8") for name in ("row_parts", "channel_parts", "images", "channels", "n", "pad", "flip")),
        *((name, "i8") for name in ImageNumbers._fields),
        *((name, "i8") for name in ("words", "values", "index", "steps")),
        *OPERAND_FIELDS,
        *((name, "i8") for name in ("transposed", "controls", "places", "few_places")),
        *((name, "i8") for name in ("out_image", "out_block", "out_plane", "out_row", "out_pixel", "out_origin")),
        *((name, "i8") for name in ("out_top", "out_left", "out_bottom", "out_right", "out_pad")),
    ]
)


@kernel_jit
def _few_tiles(pixels: int, few: int) -> int:
    """Return how many tiles of `few` pixels, beside whole ones, cover `pixels` pixels with the least beyond them."""
    best, least = 0, pixels + PIXELS if pixels >= PIXELS else 8 * PIXELS
    for count in range(5):
        whole = (max(0, pixels - count * few) + PIXELS - 1) // PIXELS
        # The last tile can begin earlier, but not before the first pixel; smaller tiles take a little more time.
        fits = whole * PIXELS <= pixels if count > 0 else pixels >= PIXELS
        total = whole * PIXELS + count * (few + 1)
        if fits and total < least:
            best, least = count, total
    return best


@kernel_jit
def _list_tiles(a: Any, pixels: int, base: int, first_output: int, places: int, few_places: int) -> tuple[int, int]:
    """List the tiles of `pixels` output pixels which read the image from `base` on; return the ends of both lists.

    The last tile begins early enough to be whole: it computes some pixels again.
    """
    down = a.row_stride // a.row_step * a.row_bytes
    few = a.run * (_FEW_SEVENS if a.run == 7 else _FEW_FOURS)
    few_tiles = _few_tiles(pixels, few)
    whole_tiles = (max(0, pixels - few_tiles * few) + PIXELS - 1) // PIXELS
    done = 0
    for tile in range(whole_tiles + few_tiles):
        size = PIXELS if tile < whole_tiles else few
        place = places if tile < whole_tiles else few_places
        first = min(done, pixels - size)
        for run in range(size // a.run):
            pixel = first + run * a.run
            row = pixel // a.out_width
            column = pixel - row * a.out_width
            put_octet(place + 8 * run, base + row * down + column * a.distance)
            put_octet(place + OUT_PLACES + 8 * run, first_output + row * a.out_row + column * a.out_pixel)
        done = first + size
        if tile < whole_tiles:
            places += PLACES_BYTES
        else:
            few_places += PLACES_BYTES
    return places, few_places


@kernel_jit
def _ranges(a: Any, task: int) -> tuple[int, int, int, int]:
    """Return the first and last unit and block of channels of a task."""
    units, blocks = a.images * a.units, a.n // CHANNELS
    row_part, channel_part = task // a.channel_parts, task % a.channel_parts
    first_unit, last_unit = units * row_part // a.row_parts, units * (row_part + 1) // a.row_parts
    first_block = blocks * channel_part // a.channel_parts
    return first_unit, last_unit, first_block, blocks * (channel_part + 1) // a.channel_parts


@kernel_jit
def _part(a: Any, unit: int, last_unit: int) -> tuple[int, int, int, int]:
    """Return the image of a unit, units from there on that are worked off together, their first row, and their rows."""
    image = unit // a.units
    within = unit - image * a.units
    count = min(a.most_units, a.units - within, last_unit - unit)
    first = within * a.unit_rows
    rows = (a.out_height if within + count == a.units else first + count * a.unit_rows) - first
    return image, count, first, rows


@kernel_jit
def _prepare(a: Any, unit: int, last_unit: int, x: int, scratch: int) -> tuple[int, int, int]:
    """Stage from `unit` on and list the tiles, as much of an image or as many images as fit.

    Return the unit that follows, and the ends of the lists of whole and of smaller tiles.
    """
    rows, places, few_places = 0, scratch + a.places, scratch + a.few_places
    down = a.row_stride // a.row_step
    while unit < last_unit:
        image, count, first, out_rows = _part(a, unit, last_unit)
        if rows > 0 and rows + (out_rows - 1) * down + a.reach > a.capacity_rows:
            break
        if a.is_staged:
            source = x + image * a.channels * a.height * a.width
            base = rows * a.row_bytes
            stage_rows(a, source, first, out_rows, scratch + base, scratch + a.transposed)
        else:
            base = image * a.image_bytes + a.origin + first * down * a.row_bytes
        rows += (out_rows - 1) * down + a.reach
        first_output = image * a.out_image + a.out_origin + first * a.out_row
        places, few_places = _list_tiles(a, out_rows * a.out_width, base, first_output, places, few_places)
        unit += count
    return unit, places, few_places


@kernel_jit
def _fill_border(a: Any, unit: int, last_unit: int, first_block: int, last_block: int, out: int) -> int:
    """Store the padding around the outputs of some units, and of blocks of 16 channels."""
    while unit < last_unit:
        image, count, first, rows = _part(a, unit, last_unit)
        unit += count
        right = a.out_left + a.out_width
        for plane in range(2 * first_block, 2 * last_block):
            base = out + image * a.out_image + plane * a.out_plane
            if first == 0:
                fill_bytes(base, a.out_top * a.out_row, a.out_pad)
            inner = base + (a.out_top + first) * a.out_row
            for row in range(inner, inner + rows * a.out_row, a.out_row):
                for column in range(a.out_left):
                    put_octet(row + column * STEP, a.out_pad)
                for column in range(right, right + a.out_right):
                    put_octet(row + column * STEP, a.out_pad)
            if first + rows == a.out_height:
                fill_bytes(inner + rows * a.out_row, a.out_bottom * a.out_row, a.out_pad)
    return 0


@functools.cache
def nchwc8_task(length: int, distance: int, ending: int) -> TaskFunction:
    """Return the task of convolutions in runs of `length` pixels; see :func:`.tile.nchwc8.nchwc8_tiles`."""
    whole, few = PIXELS // length, FEW_RUNS[length]

    @kernel_jit
    def multiply(a: Any, block: int, base: int, scratch: int, ends: tuple[int, int], out: int) -> int:
        """Multiply the listed tiles with a block of 16 channels, and store the outputs."""
        values, index = a.values + block * a.steps * REGISTER, a.index + block * a.steps * CHANNELS
        controls, target = scratch + a.controls, out + block * a.out_block
        expand_index(index, a.steps, controls)
        image = Image(base, a.words, values, controls, a.steps)
        operands = operands_of(operands_in(a), block * CHANNELS)
        tiles = Tiles(scratch + a.places, ends[0], target, a.out_plane)
        nchwc8_tiles(length, whole, distance, ending, tiles, image, operands)
        tiles = Tiles(scratch + a.few_places, ends[1], target, a.out_plane)
        nchwc8_tiles(length, few, distance, ending, tiles, image, operands)
        return 0

    def convolve(task: int, arguments: Any, x: int, other: int, out: int, shared: int, scratch: int) -> int:
        """Compute one task of a convolution: some units of output rows, and a range of channels."""
        a = carray(arguments, (1,), NCHWC8)[0]
        unit, last_unit, first_block, last_block = _ranges(a, task)
        if a.out_top + a.out_left + a.out_bottom + a.out_right > 0:
            _fill_border(a, unit, last_unit, first_block, last_block, out)
        image = scratch if a.is_staged else x
        while unit < last_unit:
            unit, end, few_end = _prepare(a, unit, last_unit, x, scratch)
            for block in range(first_block, last_block):
                multiply(a, block, image, scratch, (end, few_end), out)
        return 0

    return convolve
