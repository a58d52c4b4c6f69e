"""Bring planes of bytes into the padded, channels-last image that rows of a convolution are packed from."""

from typing import Any

import numpy as np

from sparse_rt_kernels.jit.compilation import kernel_jit
from sparse_rt_kernels.jit.compiler import carray
from sparse_rt_kernels.product.u8s8 import memory
from sparse_rt_kernels.product.u8s8.staging_moves import interleave_planes, transpose_bytes, transpose_bytes_32

__all__ = ["STAGE", "stage_task"]

#: `rows` padded rows in `parts` tasks: of all images, each `padded_height` rows of `padded_width` pixels of `depth`
#: bytes, `depth` being the channels rounded up to 4. They come from (images, channels, height, width) bytes at
#: ``x + x_offset``. Padding and zero-stuffing (`row_spread` and `column_spread` - 1 pixels between neighbours) read
#: `pad`, a byte of the domain that `flip` shifts to. `top` and `left` may be negative: they crop.
STAGE = np.dtype(
    [
        (name, "i8")
        for name in (
            *("rows", "parts", "x_offset", "channels", "height", "width", "top", "left"),
            *("row_spread", "column_spread", "padded_height", "padded_width", "depth", "pad", "flip"),
        )
    ]
)


@kernel_jit
def _transpose_row(source: int, plane: int, channels: int, pixels: int, out: int, depth: int, flip: int) -> int:
    """Transpose one row of `channels` planes to `pixels` x `depth` bytes, depth = channels rounded up to 4."""
    if depth == 4:
        for column in range(0, pixels, 16):
            count = min(16, pixels - column)
            interleave_planes(source + column, plane, channels, count, out + column * 4, flip)
        return 0
    # A cache line of each plane at a time.
    for line in range(0, pixels, 64):
        for channel in range(0, channels, 16):
            present = min(16, channels - channel)
            column, end = line, min(line + 64, pixels)
            while column < end:
                address, target = source + channel * plane + column, out + column * depth + channel
                if present == 16 and end - column >= 32:
                    transpose_bytes_32(address, plane, target, depth, flip)
                    column += 32
                else:
                    count = min(16, end - column)
                    transpose_bytes(address, plane, present, count, target, depth, flip)
                    column += 16
    return 0


@kernel_jit
def _spread_row(a: Any, source: int, plane: int, count: int, out: int) -> int:
    """Like `_transpose_row`, but leave `column_spread` - 1 pixels as they are between neighbours."""
    for column in range(count):
        for channel in range(a.channels):
            value = memory.byte(source + channel * plane + column) ^ (a.flip & 255)
            memory.fill_bytes(out + column * a.column_spread * a.depth + channel, 1, value)
    return 0


def stage_task(task: int, arguments: Any, x: int, other: int, out: int, shared: int, scratch: int) -> int:
    """Bring one part of the input's rows into the image at `shared`; see :data:`STAGE`."""
    a = carray(arguments, (1,), STAGE)[0]
    row_bytes = a.padded_width * a.depth
    # Of a source row, the columns whose place lies in [0, padded_width).
    from_column = (max(0, -a.left) + a.column_spread - 1) // a.column_spread
    to_column = min(a.width, (a.padded_width - a.left + a.column_spread - 1) // a.column_spread)
    count = to_column - from_column
    start = a.left + from_column * a.column_spread
    filled = count == a.padded_width and a.column_spread == 1 and a.channels == a.depth
    plane = a.height * a.width
    for padded_row in range(a.rows * task // a.parts, a.rows * (task + 1) // a.parts):
        image = padded_row // a.padded_height
        place = padded_row - image * a.padded_height - a.top
        target = shared + padded_row * row_bytes
        row = place // a.row_spread
        outside = place < 0 or row >= a.height or row * a.row_spread != place or count <= 0
        if outside or not filled:
            memory.fill_bytes(target, row_bytes, a.pad)
        if outside:
            continue
        source = x + a.x_offset + image * a.channels * plane + row * a.width + from_column
        if a.column_spread == 1:
            _transpose_row(source, plane, a.channels, count, target + start * a.depth, a.depth, a.flip)
        else:
            _spread_row(a, source, plane, count, target + start * a.depth)
    return 0
