"""The tasks of the int8 2:4 family: what one thread does of a product, from unpacked activations to stored outputs.

Each takes one record of arguments; see :data:`.compilation.TaskFunction`. Addresses in a record are absolute;
x, out and scratch memory come with the call.
"""

from typing import Any

import numpy as np

from sparse_rt_kernels.jit.compilation import kernel_jit
from sparse_rt_kernels.jit.compiler import carray
from sparse_rt_kernels.n2m4_u8s8.task.block import (
    Rows,
    Scratch,
    Weight,
    multiply_block,
    multiply_small_m,
    packed_rows,
)
from sparse_rt_kernels.product.u8s8.operands import OPERAND_FIELDS, operands_in
from sparse_rt_kernels.product.u8s8.output import Output
from sparse_rt_kernels.product.u8s8.panels import (
    SMALL_M,
    Pixels,
    pack_image_rows,
    pack_matrix_rows,
    pack_plane_pixels,
    pack_small_m,
)
from sparse_rt_kernels.product.u8s8.sizes import CHANNELS, ROWS, STEP

__all__ = ["CONV", "MATMUL", "POINTWISE", "conv_task", "matmul_task", "pointwise_task"]

#: Fields of every product: the grid of tasks, the weight (`n` channels, `steps` steps), what activations are xor-ed
#: with, the kind of outputs, :class:`.operands.Operands`, the item size of outputs, :class:`.blocking.rows.Blocking`.
_PRODUCT = [
    *((name, "i8") for name in ("row_parts", "channel_parts", "values", "index", "n", "steps", "flip")),
    ("kind", "i8"),
    *OPERAND_FIELDS,
    ("itemsize", "i8"),
    *((name, "i8") for name in ("block_rows", "block_steps", "panel", "controls", "sums", "table")),
]


def _record(*names: str) -> np.dtype[Any]:
    return np.dtype([*_PRODUCT, *((name, "i8") for name in names)])


#: x is (m, columns) bytes, rows `x_stride` bytes apart; those of out `out_stride`.
MATMUL = _record("m", "columns", "x_stride", "out_stride")
#: x is (images, channels, pixels) bytes.
POINTWISE = _record("images", "channels", "pixels")
#: Output pixel (p, q) of image i begins at ``shared + i * image_bytes + p * down + q * right``; `words` is the address
#: of the offsets from there of each 4 reduction elements; the images go to ``out + out_offset``.
CONV = _record("images", "out_height", "out_width", "down", "right", "image_bytes", "words", "out_offset")
#: The largest power of two that may divide the bytes from row to row of activations that are not packed.
_MOST_ALIGNED = 1024


@kernel_jit
def _split(extent: int, unit: int, part: int, parts: int) -> tuple[int, int]:
    """Return the `part`-th of `parts` nearly equal ranges of [0, extent), cut at multiples of `unit`."""
    units = (extent + unit - 1) // unit
    return units * part // parts * unit, min(extent, units * (part + 1) // parts * unit)


@kernel_jit
def _weight(a: Any, first_channel: int, last_channel: int) -> Weight:
    return Weight(a.values, a.index, a.n, a.steps, first_channel // CHANNELS, (last_channel + CHANNELS - 1) // CHANNELS)


@kernel_jit
def _scratch(a: Any, base: int) -> Scratch:
    return Scratch(a.block_rows, a.block_steps, base + a.panel, base + a.controls, base + a.sums, base + a.table)


@kernel_jit
def _matrix_rows(a: Any, x: int, rows: int, blocks: Scratch) -> Rows:
    """Return where tiles read the rows of a matrix: where they are, if they can, or in the panels that this packs.

    Packing is needed where bytes change sign or end within a step, and where the 24 lines that a tile reads side by
    side would share too few sets of the first-level cache, whose ways are pages of 4 KiB.
    """
    whole = rows // ROWS * ROWS
    if a.flip == 0 and a.columns >= a.steps * STEP and (a.x_stride & -a.x_stride) <= _MOST_ALIGNED:
        pack_matrix_rows(
            x + whole * a.x_stride, a.x_stride, a.columns, rows - whole, a.steps, blocks.table, blocks.panel, 0
        )
        return Rows(x, a.x_stride, STEP, ROWS * a.x_stride, blocks.panel)
    pack_matrix_rows(x, a.x_stride, a.columns, rows, a.steps, blocks.table, blocks.panel, a.flip)
    return packed_rows(blocks.panel, rows, a.steps)


def matmul_task(task: int, arguments: Any, x: int, other: int, out: int, shared: int, scratch: int) -> int:
    """Compute one task of ``out = epilogue(x @ w.T)``: rows and channels that the task's number stands for."""
    a = carray(arguments, (1,), MATMUL)[0]
    first_row, last_row = _split(a.m, ROWS, task // a.channel_parts, a.row_parts)
    first_channel, last_channel = _split(a.n, CHANNELS, task % a.channel_parts, a.channel_parts)
    weight, operands, blocks = _weight(a, first_channel, last_channel), operands_in(a), _scratch(a, scratch)
    target = Output(a.kind, out, a.itemsize, a.out_stride, 0, 0)
    for first in range(first_row, last_row, a.block_rows):
        rows = min(a.block_rows, last_row - first)
        source = x + first * a.x_stride
        if rows <= SMALL_M:
            pack_small_m(source, a.x_stride, a.columns, rows, a.steps, blocks.panel, a.flip)
            multiply_small_m(weight, first, rows, blocks, operands, target)
            continue
        x_rows = _matrix_rows(a, source, rows, blocks)
        for block in range(weight.first_block, weight.last_block):
            multiply_block(weight, block, first, rows, x_rows, blocks, operands, target)
    return 0


def conv_task(task: int, arguments: Any, x: int, other: int, out: int, shared: int, scratch: int) -> int:
    """Compute one task of a convolution over the image that was staged at `shared`."""
    a = carray(arguments, (1,), CONV)[0]
    pixels = a.out_height * a.out_width
    first_row, last_row = _split(a.images * pixels, ROWS, task // a.channel_parts, a.row_parts)
    first_channel, last_channel = _split(a.n, CHANNELS, task % a.channel_parts, a.channel_parts)
    weight, operands, blocks = _weight(a, first_channel, last_channel), operands_in(a), _scratch(a, scratch)
    source = Pixels(shared, a.out_height, a.out_width, a.down, a.right, a.image_bytes, a.words)
    planes = Output(a.kind, out + a.out_offset, a.itemsize, pixels * a.itemsize, pixels, a.n * pixels * a.itemsize)
    for first in range(first_row, last_row, a.block_rows):
        rows = min(a.block_rows, last_row - first)
        pack_image_rows(source, first, rows, a.steps, blocks.table, blocks.panel)
        x_rows = packed_rows(blocks.panel, rows, a.steps)
        for block in range(weight.first_block, weight.last_block):
            multiply_block(weight, block, first, rows, x_rows, blocks, operands, planes)
    return 0


def pointwise_task(task: int, arguments: Any, x: int, other: int, out: int, shared: int, scratch: int) -> int:
    """Compute one task of a 1x1 convolution, packed straight from planes; work is split within each image."""
    a = carray(arguments, (1,), POINTWISE)[0]
    first_row, last_row = _split(a.pixels, ROWS, task // a.channel_parts, a.row_parts)
    first_channel, last_channel = _split(a.n, CHANNELS, task % a.channel_parts, a.channel_parts)
    weight, operands, blocks = _weight(a, first_channel, last_channel), operands_in(a), _scratch(a, scratch)
    planes = Output(a.kind, out, a.itemsize, a.pixels * a.itemsize, a.pixels, a.n * a.pixels * a.itemsize)
    for image in range(a.images):
        source = x + image * a.channels * a.pixels
        for first in range(first_row, last_row, a.block_rows):
            rows = min(a.block_rows, last_row - first)
            pack_plane_pixels(source, a.channels, a.pixels, first, rows, a.steps, blocks.panel, a.flip)
            x_rows = packed_rows(blocks.panel, rows, a.steps)
            for block in range(weight.first_block, weight.last_block):
                multiply_block(weight, block, image * a.pixels + first, rows, x_rows, blocks, operands, planes)
    return 0
