"""Fill a thread's packed panels with activation rows."""

from typing import NamedTuple

from sparse_rt_kernels.jit.compilation import kernel_jit
from sparse_rt_kernels.product.u8s8 import memory
from sparse_rt_kernels.product.u8s8.panel_moves import octets_of_planes, octets_of_rows
from sparse_rt_kernels.product.u8s8.sizes import PANEL_STEP, ROWS, STEP

__all__ = ["SMALL_M", "Pixels", "pack_small_m", "pack_image_rows", "pack_matrix_rows", "pack_plane_pixels"]

#: Up to so many rows lie side by side without gaps: where they are few, gaps would push them out of L1.
SMALL_M = 16
#: Panels that are packed from planes together: 3 cache lines of each plane.
_PANELS_OF_LINES = 8


class Pixels(NamedTuple):
    """Output pixels of staged images: (p, q) of image i begins at ``address + i * image_bytes + p * down + q * right``.

    Attributes
    ----------
    out_height, out_width
        Of an image.
    words
        (2 * steps,) int32, ascending: offset of each 4 reduction elements from a pixel's first; its address.
    """

    address: int
    out_height: int
    out_width: int
    down: int
    right: int
    image_bytes: int
    words: int


@kernel_jit
def _pixel_addresses(pixels: Pixels, first: int, rows: int, table: int) -> int:
    """Fill in where output pixels [first, first + rows) begin, the last one repeated up to a multiple of 8."""
    width = pixels.out_width
    row = first // width
    column, image = first - row * width, row // pixels.out_height
    row -= image * pixels.out_height
    address = 0
    for slot in range((rows + 7) // 8 * 8):
        if slot < rows:
            address = pixels.address + image * pixels.image_bytes + row * pixels.down + column * pixels.right
            column += 1
            if column == width:
                column, row = 0, row + 1
                if row == pixels.out_height:
                    row, image = 0, image + 1
        memory.put_octet(table + slot * 8, address)
    return 0


@kernel_jit
def _pack_chunk(table: int, rows: int, offset: int, panel: int, flip: int) -> int:
    """Pack 8 steps that are contiguous in each row; the table goes on to a multiple of 8 rows."""
    for row in range(0, rows, 8):
        octets_of_rows(table + row * 8, offset, panel + row * STEP, flip)
    return 0


@kernel_jit
def _fill_table(table: int, rows: int, first: int, stride: int) -> int:
    """Fill in the addresses of equally spaced rows, the last one repeated up to a multiple of 8."""
    for row in range((rows + 7) // 8 * 8):
        memory.put_octet(table + row * 8, first + min(row, rows - 1) * stride)
    return 0


@kernel_jit
def _partial_octet(address: int, count: int) -> int:
    """Return `count` bytes, 0 to 8, as an integer, the others zero."""
    if count >= STEP:
        return memory.octet(address)
    value = 0
    for byte in range(count):
        value |= memory.byte(address + byte) << (8 * byte)
    return value


@kernel_jit
def pack_small_m(x: int, stride: int, columns: int, rows: int, steps: int, panel: int, flip: int) -> int:
    """Pack `rows` rows of a row-major byte matrix into one panel (steps, rows, 8); the rest counts as zero.

    Parameters are those of :func:`pack_matrix_rows`.
    """
    whole = min(columns // STEP, steps)
    for row in range(rows):
        source, place = x + row * stride, panel + row * STEP
        for step in range(whole):
            memory.put_octet(place + step * rows * STEP, memory.octet(source + step * STEP) ^ flip)
        for step in range(whole, steps):
            value = _partial_octet(source + step * STEP, max(0, columns - step * STEP))
            memory.put_octet(place + step * rows * STEP, value ^ flip)
    return 0


@kernel_jit
def pack_matrix_rows(
    x: int, stride: int, columns: int, rows: int, steps: int, table: int, panel: int, flip: int
) -> int:
    """Pack `rows` rows of a row-major byte matrix into panels (steps, 24, 8); beyond its columns it counts as zero.

    Parameters
    ----------
    x, stride, columns
        Address of the first row, bytes from row to row, and how many are read of each.
    table
        Scratch for row addresses.
    panel
        ceil(rows / 24) panels, 64-byte aligned.
    flip
        See :func:`panel_moves.octets_of_rows`.
    """
    whole_chunks = min(columns // (8 * STEP), steps // 8)
    for first in range(0, rows, ROWS):
        count = min(ROWS, rows - first)
        source = x + first * stride
        _fill_table(table, count, source, stride)
        for chunk in range(whole_chunks):
            _pack_chunk(table, count, chunk * 64, panel + chunk * 8 * PANEL_STEP, flip)
        for step in range(8 * whole_chunks, steps):
            present = max(0, columns - step * STEP)
            for row in range(count):
                value = _partial_octet(source + row * stride + step * STEP, present)
                memory.put_octet(panel + step * PANEL_STEP + row * STEP, value ^ flip)
        panel += steps * PANEL_STEP
    return 0


@kernel_jit
def pack_image_rows(source: Pixels, first: int, rows: int, steps: int, table: int, panel: int) -> int:
    """Pack output pixels [first, first + rows) of channels-last images into panels (steps, 24, 8).

    `table` is scratch for their addresses, (rows rounded up to 8,) int64.
    """
    _pixel_addresses(source, first, rows, table)
    for tile in range(0, rows, ROWS):
        count = min(ROWS, rows - tile)
        addresses = table + tile * 8
        step = 0
        while step < steps:
            offset = memory.word(source.words + step * 8)
            # Offsets ascend by 4 or more, so that 15 of them that rise by 60 are contiguous.
            if step + 8 <= steps and memory.word(source.words + step * 8 + 60) - offset == 60:
                _pack_chunk(addresses, count, offset, panel + step * PANEL_STEP, 0)
                step += 8
                continue
            following = memory.word(source.words + step * 8 + 4)
            place = panel + step * PANEL_STEP
            if following - offset == 4:
                for row in range(count):
                    memory.put_octet(place + row * STEP, memory.octet(memory.octet(addresses + row * 8) + offset))
            else:
                for row in range(count):
                    pixel = memory.octet(addresses + row * 8)
                    low, high = memory.word(pixel + offset), memory.word(pixel + following)
                    memory.put_octet(place + row * STEP, low | high << 32)
            step += 1
        panel += steps * PANEL_STEP
    return 0


@kernel_jit
def pack_plane_pixels(
    x: int, channels: int, pixels: int, first: int, rows: int, steps: int, panel: int, flip: int
) -> int:
    """Pack pixels [first, first + rows) of planes, (channels, pixels) bytes at `x`, into panels (steps, 24, 8)."""
    panels = (rows + ROWS - 1) // ROWS
    for group in range(0, panels, _PANELS_OF_LINES):
        last = min(panels, group + _PANELS_OF_LINES)
        for step in range(steps):
            present = min(STEP, channels - step * STEP)
            source = x + step * STEP * pixels + first
            for number in range(group, last):
                pixel = number * ROWS
                place = panel + (number * steps + step) * PANEL_STEP
                # Reading on into the next plane is harmless, beyond the last one it is not.
                readable = (present - 1) * pixels + pixels - first - pixel
                readable = pixels - first - pixel if step == steps - 1 else readable
                octets_of_planes(source + pixel, pixels, present, readable, place, flip)
    return 0
