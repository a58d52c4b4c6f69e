"""The tasks of a convolution over octet images: stage a part of the input, multiply it with the weight, store bytes.

No panel is packed: tiles read the octet image itself, wherever each kernel element falls. Nor is anything staged where
the input is in blocks of 8 channels already: that is an octet image.
"""

import functools
from typing import Any

import numpy as np

from sparse_rt_kernels.jit.compilation import TaskFunction, kernel_jit
from sparse_rt_kernels.jit.compiler import carray
from sparse_rt_kernels.n2m4_u8s8.tile import rows as micro
from sparse_rt_kernels.n2m4_u8s8.tile.nchwc8 import FEW_RUNS, OUT_PLACES, PIXELS, PLACES_BYTES, image_tiles
from sparse_rt_kernels.product.u8s8.moves import fill_bytes, put_octet
from sparse_rt_kernels.product.u8s8.nchwc8_moves import copy_octets, split_octets, turn_pixels
from sparse_rt_kernels.product.u8s8.sizes import CHANNELS, STEP
from sparse_rt_kernels.vectors.registers import REGISTER

__all__ = ["IMAGE", "image_task"]

_FEW_SEVENS, _FEW_FOURS = FEW_RUNS[7], FEW_RUNS[4]

#: `images` images of `channels` channels, cut into `units` units each, of which `row_parts` ranges are tasks. `pad` is
#: 8 bytes of padding in the domain that `flip` shifts to. The others are the fields of
#: :class:`image_layout.OctetImage`, the weight, the epilogue, offsets into a thread's scratch memory, and where outputs
#: lie: `out_block` is from 16 channels to the next 16, `out_plane` what a tile takes as stride; around the planes
#: lies a border of `out_pad` if there is one.
IMAGE = np.dtype(
    [
        *((name, "i8") for name in ("row_parts", "channel_parts", "images", "channels", "n", "pad", "flip", "run")),
        *((name, "i8") for name in ("height", "width", "out_height", "out_width", "unit_rows", "units")),
        *((name, "i8") for name in ("most_units", "capacity_rows", "row_stride", "row_step", "reach", "top", "left")),
        *((name, "i8") for name in ("padded_width", "phases", "keeps_odd", "phase_bytes", "row_bytes")),
        *((name, "i8") for name in ("plane_bytes", "turned_rows", "distance", "is_staged", "image_bytes", "origin")),
        ("words", "i8"),
        *((name, "i8") for name in ("values", "index", "steps", "offset", "row_sums", "shift", "scale", "bias")),
        ("low", "f8"),
        ("high", "f8"),
        *((name, "i8") for name in ("zero_point", "sign", "turned", "controls", "places", "few_places")),
        *((name, "i8") for name in ("out_image", "out_block", "out_plane", "out_row", "out_pixel", "out_origin")),
        *((name, "i8") for name in ("out_top", "out_left", "out_bottom", "out_right", "out_pad")),
    ]
)


@kernel_jit
def _turn_row(source: int, plane: int, pixels: int, out: int, flip: int) -> int:
    """Turn `pixels` pixels of 8 planes, which lie side by side, into octets."""
    for pixel in range(0, pixels, 64):
        turn_pixels(source + pixel, plane, pixels - pixel, out + pixel * STEP, flip)
    return 0


@kernel_jit
def _pad(phases: int, phase_bytes: int, pad: int, first: int, last: int, row: int) -> int:
    """Store padding at columns [first, last) of a row of the octet image."""
    for column in range(first, last):
        place = row + column * STEP if phases == 1 else row + (column & 1) * phase_bytes + (column >> 1) * STEP
        put_octet(place, pad)
    return 0


@kernel_jit
def _split_row(octets: int, width: int, left: int, phase_bytes: int, keeps_odd: int, row: int) -> int:
    """Store a row's even and odd pixels apart; `left` columns come before them."""
    even = row + (left & 1) * phase_bytes + (left >> 1) * STEP
    odd = row + (left + 1 & 1) * phase_bytes + (left + 1 >> 1) * STEP
    # Odd pixels that nobody reads are overwritten by the even ones.
    return split_octets(octets, width, even, odd if keeps_odd else even)


@kernel_jit
def _stage_padded(a: Any, source: int, first: int, rows: int, out: int, turned: int) -> int:
    """Turn 8 planes at `source` into `rows` padded rows, beginning with input row `first`, which may be outside."""
    begin = (max(0, -first) + a.row_step - 1) // a.row_step
    end = min(rows, (a.height - first + a.row_step - 1) // a.row_step)
    fill_bytes(out, min(begin, rows) * a.row_bytes, a.pad)
    width, left, phases, phase_bytes, pad, flip = a.width, a.left, a.phases, a.phase_bytes, a.pad, a.flip
    plane, row_bytes, keeps_odd, padded_width = a.height * width, a.row_bytes, a.keeps_odd, a.padded_width
    for row in range(begin, end, a.turned_rows):
        count = min(a.turned_rows, end - row)
        pixels = source + (first + row * a.row_step) * width
        _turn_row(pixels, plane, ((count - 1) * a.row_step + 1) * width, turned, flip)
        for each in range(count):
            octets, place = turned + each * a.row_step * width * STEP, out + (row + each) * row_bytes
            if phases == 1:
                copy_octets(octets, width, place + left * STEP)
            else:
                _split_row(octets, width, left, phase_bytes, keeps_odd, place)
            # Whole registers were stored: padding comes after.
            _pad(phases, phase_bytes, pad, 0, left, place)
            _pad(phases, phase_bytes, pad, left + width, padded_width, place)
    last = max(begin, end)
    fill_bytes(out + last * a.row_bytes, max(0, rows - last) * a.row_bytes, a.pad)
    return 0


@kernel_jit
def _stage_rows(a: Any, image: int, out_row: int, rows: int, out: int, turned: int) -> int:
    """Stage what `rows` output rows of the image at `image` read from `out_row` on."""
    staged: int = (rows - 1) * (a.row_stride // a.row_step) + a.reach
    first = out_row * a.row_stride - a.top
    plane = a.height * a.width
    for channel in range(0, a.channels, STEP):
        source, target = image + channel * plane, out + channel // STEP * a.plane_bytes
        if a.turned_rows == 0:
            _turn_row(source + first * a.width, plane, staged * a.width, target, a.flip)
        else:
            _stage_padded(a, source, first, staged, target, turned)
    return staged


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
            _stage_rows(a, source, first, out_rows, scratch + base, scratch + a.turned)
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
def image_task(length: int, distance: int, ending: int) -> TaskFunction:
    """Return the task of convolutions in runs of `length` pixels; see :func:`image_tile.image_tiles`."""
    whole, few = PIXELS // length, FEW_RUNS[length]

    @kernel_jit
    def multiply(a: Any, block: int, image: int, scratch: int, end: int, few_end: int, out: int) -> int:
        """Multiply the listed tiles with a block of 16 channels, and store the outputs."""
        channel = block * CHANNELS
        values, index = a.values + block * a.steps * REGISTER, a.index + block * a.steps * CHANNELS
        controls = scratch + a.controls
        micro.expand_index(index, a.steps, controls)
        image_tiles(
            length,
            whole,
            distance,
            ending,
            scratch + a.places,
            end,
            image,
            a.words,
            values,
            controls,
            a.steps,
            out + block * a.out_block,
            a.out_plane,
            a.offset + 4 * channel,
            a.row_sums + 4 * channel,
            a.shift,
            a.scale + 4 * channel,
            a.bias + 4 * channel,
            np.float32(a.low),
            np.float32(a.high),
            a.zero_point,
            a.sign,
        )
        image_tiles(
            length,
            few,
            distance,
            ending,
            scratch + a.few_places,
            few_end,
            image,
            a.words,
            values,
            controls,
            a.steps,
            out + block * a.out_block,
            a.out_plane,
            a.offset + 4 * channel,
            a.row_sums + 4 * channel,
            a.shift,
            a.scale + 4 * channel,
            a.bias + 4 * channel,
            np.float32(a.low),
            np.float32(a.high),
            a.zero_point,
            a.sign,
        )
        return 0

    def convolve(task: int, arguments: Any, x: int, other: int, out: int, shared: int, scratch: int) -> int:
        """Compute one task of a convolution: some units of output rows, and a range of channels."""
        a = carray(arguments, (1,), IMAGE)[0]
        unit, last_unit, first_block, last_block = _ranges(a, task)
        if a.out_top + a.out_left + a.out_bottom + a.out_right > 0:
            _fill_border(a, unit, last_unit, first_block, last_block, out)
        image = scratch if a.is_staged else x
        while unit < last_unit:
            unit, end, few_end = _prepare(a, unit, last_unit, x, scratch)
            for block in range(first_block, last_block):
                multiply(a, block, image, scratch, end, few_end, out)
        return 0

    return convolve
