"""Bring a part of the planes of an image into NCHWc8 for the tiles of a convolution, padding included."""

from typing import Any

from sparse_rt_kernels.jit.compilation import kernel_jit
from sparse_rt_kernels.product.u8s8.memory import fill_bytes, put_octet
from sparse_rt_kernels.product.u8s8.nchwc8_moves import copy_octets, pixels_of_planes, split_octets
from sparse_rt_kernels.product.u8s8.sizes import STEP

__all__ = ["stage_rows"]


@kernel_jit
def _transpose_row(source: int, plane: int, pixels: int, out: int, flip: int) -> int:
    """Transpose `pixels` pixels of 8 planes, which lie side by side, to octets."""
    for pixel in range(0, pixels, 64):
        pixels_of_planes(source + pixel, plane, pixels - pixel, out + pixel * STEP, flip)
    return 0


@kernel_jit
def _pad(phases: int, phase_bytes: int, pad: int, first: int, last: int, row: int) -> int:
    """Store padding at columns [first, last) of a row of the image."""
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
def _stage_padded(a: Any, source: int, first: int, rows: int, out: int, transposed: int) -> int:
    """Transpose 8 planes at `source` to `rows` padded rows, beginning with input row `first`, which may be outside."""
    begin = (max(0, -first) + a.row_step - 1) // a.row_step
    end = min(rows, (a.height - first + a.row_step - 1) // a.row_step)
    fill_bytes(out, min(begin, rows) * a.row_bytes, a.pad)
    width, left, phases, phase_bytes, pad, flip = a.width, a.left, a.phases, a.phase_bytes, a.pad, a.flip
    plane, row_bytes, keeps_odd, padded_width = a.height * width, a.row_bytes, a.keeps_odd, a.padded_width
    for row in range(begin, end, a.transposed_rows):
        count = min(a.transposed_rows, end - row)
        pixels = source + (first + row * a.row_step) * width
        _transpose_row(pixels, plane, ((count - 1) * a.row_step + 1) * width, transposed, flip)
        for each in range(count):
            octets, place = transposed + each * a.row_step * width * STEP, out + (row + each) * row_bytes
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
def stage_rows(a: Any, image: int, out_row: int, rows: int, out: int, transposed: int) -> int:
    """Stage what `rows` output rows of the image at `image` read from `out_row` on."""
    staged: int = (rows - 1) * (a.row_stride // a.row_step) + a.reach
    first = out_row * a.row_stride - a.top
    plane = a.height * a.width
    for channel in range(0, a.channels, STEP):
        source, target = image + channel * plane, out + channel // STEP * a.plane_bytes
        if a.transposed_rows == 0:
            _transpose_row(source + first * a.width, plane, staged * a.width, target, a.flip)
        else:
            _stage_padded(a, source, first, staged, target, transposed)
    return staged
