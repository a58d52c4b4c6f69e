"""The macro-kernel of the int8 tiles of any vector width: packed rows times the weight, block by block."""

import functools
from typing import Any, NamedTuple

import numpy as np

from sparse_rt_kernels.jit.compilation import TaskFunction, kernel_jit
from sparse_rt_kernels.jit.compiler import carray
from sparse_rt_kernels.product.u8s8.moves import put_octet
from sparse_rt_kernels.product.u8s8.output import Epilogue, Output, finish_block
from sparse_rt_kernels.product.u8s8.panels import pack_image_rows, pack_matrix_rows
from sparse_rt_kernels.product.u8s8.sizes import CHANNELS, ROWS, STEP
from sparse_rt_kernels.tiled_u8s8.blocking import Shape
from sparse_rt_kernels.tiled_u8s8.tile import Operands, expand, tile, widen

__all__ = ["PRODUCT", "product_task"]

#: Bytes of one row of sums.
_SUMS_ROW = CHANNELS * 4


#: A product: `m` rows, in `row_parts` tasks times `channel_parts`; the weight, in blocks of 16 channels; where rows
#: come from and where results go, as :class:`Rows` and :class:`.finishing.Output`, relative to x (or to `shared`, if
#: rows are pixels) and to ``out + out_offset``; the fields of :class:`.finishing.Epilogue` and of
#: :class:`.blocking.Blocking`.
PRODUCT = np.dtype(
    [
        *((name, "i8") for name in ("row_parts", "channel_parts", "m")),
        *((name, "i8") for name in ("values", "index", "n", "steps", "blocks", "values_bytes", "index_bytes")),
        *((name, "i8") for name in ("x_stride", "columns", "flip")),
        *((name, "i8") for name in ("words", "out_height", "out_width", "down", "right", "image_bytes")),
        *((name, "i8") for name in ("out_offset", "itemsize", "out_stride", "pixels", "image_stride")),
        *((name, "i8") for name in ("kind", "offset", "row_sums", "shift", "scale", "bias")),
        ("low", "f8"),
        ("high", "f8"),
        ("zero_point", "i8"),
        *((name, "i8") for name in ("block_rows", "block_steps", "panel", "widened", "operands", "sums", "table")),
    ]
)


class Share(NamedTuple):
    """One task: rows, and channels in whole blocks of 16; half-open ranges."""

    first_row: int
    last_row: int
    first_block: int
    last_block: int


class Weight(NamedTuple):
    """Addresses and sizes of a packed weight, and the bytes of a block of 16 channels."""

    values: int
    indexes: int
    n: int
    steps: int
    values_bytes: int
    index_bytes: int


class Rows(NamedTuple):
    """Where the rows of the product come from: a matrix of bytes, or the pixels of staged, channels-last images.

    Attributes
    ----------
    address, stride, columns, flip
        First row, bytes from row to row, how many columns there are, and what each 8 bytes are xor-ed with.
    words
        For images, else 0: (2 * steps,) int32, offset of each 4 reduction elements from a pixel's first.
    out_height, out_width, down, right, image_bytes
        Output pixel (p, q) of image i begins at ``address + i * image_bytes + p * down + q * right``.
    """

    address: int
    stride: int
    columns: int
    flip: int
    words: int
    out_height: int
    out_width: int
    down: int
    right: int
    image_bytes: int


class Scratch(NamedTuple):
    """Sizes of a block and addresses in a thread's scratch; see :class:`.blocking.Blocking`."""

    rows: int
    steps: int
    panel: int
    widened: int
    operands: int
    sums: int
    table: int


@kernel_jit
def _pixel_addresses(source: Rows, first: int, rows: int, table: int) -> int:
    """Fill in where output pixels [first, first + rows) begin, the last one repeated up to a multiple of 8."""
    width = source.out_width
    row = first // width
    column, image = first - row * width, row // source.out_height
    row -= image * source.out_height
    address = 0
    for slot in range((rows + 7) // 8 * 8):
        if slot < rows:
            address = source.address + image * source.image_bytes + row * source.down + column * source.right
            column += 1
            if column == width:
                column, row = 0, row + 1
                if row == source.out_height:
                    row, image = 0, image + 1
        put_octet(table + slot * 8, address)
    return 0


@kernel_jit
def _pack_rows(source: Rows, first: int, rows: int, steps: int, scratch: Scratch) -> int:
    """Fill the scratch's panels with rows [first, first + rows)."""
    if source.words == 0:
        at = source.address + first * source.stride
        pack_matrix_rows(at, source.stride, source.columns, rows, steps, scratch.table, scratch.panel, source.flip)
    else:
        _pixel_addresses(source, first, rows, scratch.table)
        pack_image_rows(scratch.table, rows, source.words, steps, scratch.panel)
    return 0


@kernel_jit
def _share(a: Any, task: int) -> Share:
    row, column = task // a.channel_parts, task % a.channel_parts
    panels = (a.m + ROWS - 1) // ROWS
    return Share(
        panels * row // a.row_parts * ROWS,
        min(a.m, panels * (row + 1) // a.row_parts * ROWS),
        a.blocks * column // a.channel_parts,
        a.blocks * (column + 1) // a.channel_parts,
    )


@kernel_jit
def _rows(a: Any, address: int) -> Rows:
    images = (a.words, a.out_height, a.out_width, a.down, a.right, a.image_bytes)
    return Rows(address, a.x_stride, a.columns, a.flip, *images)


@kernel_jit
def _epilogue(a: Any) -> Epilogue:
    return Epilogue(a.kind, a.offset, a.row_sums, a.shift, a.scale, a.bias, a.low, a.high, a.zero_point)


@kernel_jit
def _scratch(a: Any, base: int) -> Scratch:
    addresses = (base + a.panel, base + a.widened, base + a.operands, base + a.sums, base + a.table)
    return Scratch(a.block_rows, a.block_steps, *addresses)


@functools.cache
def product_task(shape: Shape) -> TaskFunction:
    """Return the task that computes a part of a product, compiled for `shape`; see :data:`PRODUCT`."""
    # Compiled code is found again by what the function captures: by ints, but not by other compiled functions.
    lanes, has_dot, strategy = shape
    full, half = shape.rows, shape.rows // 2
    halves, is_widened = CHANNELS // lanes, int(shape.is_widened)
    row_bytes, step_bytes, operand_bytes = shape.row_bytes, shape.step_bytes, shape.operand_bytes

    def task(task: int, arguments: Any, x: int, other: int, out_address: int, shared: int, scratch_address: int) -> int:
        """Compute the rows and channels that the task's number stands for."""
        a = carray(arguments, (1,), PRODUCT)[0]
        share, source, epilogue = _share(a, task), _rows(a, shared if a.words else x), _epilogue(a)
        weight = Weight(a.values, a.index, a.n, a.steps, a.values_bytes, a.index_bytes)
        out = Output(out_address + a.out_offset, a.itemsize, a.out_stride, a.pixels, a.image_stride)
        scratch = _scratch(a, scratch_address)
        panels = scratch.widened if is_widened else scratch.panel
        for first in range(share.first_row, share.last_row, scratch.rows):
            rows = min(scratch.rows, share.last_row - first)
            _pack_rows(source, first, rows, weight.steps, scratch)
            if is_widened:
                packed = (rows + ROWS - 1) // ROWS * ROWS * weight.steps * STEP
                widen(scratch.panel, packed, scratch.widened)
            for block in range(share.first_block, share.last_block):
                for step in range(0, weight.steps, scratch.steps):
                    steps = min(scratch.steps, weight.steps - step)
                    values = weight.values + block * weight.values_bytes + step * (weight.values_bytes // weight.steps)
                    index = weight.indexes + block * weight.index_bytes + step * CHANNELS
                    expand(lanes, has_dot, strategy, values, index, steps, scratch.operands)
                    for top in range(0, rows, ROWS):
                        panel = panels + (top // ROWS * weight.steps + step) * step_bytes
                        bottom = min(ROWS, rows - top)
                        for part in range(halves):
                            operands = scratch.operands + part * steps * operand_bytes
                            sums = scratch.sums + top * _SUMS_ROW + part * lanes * 4
                            row = 0
                            while row < bottom:
                                at, to = panel + row * row_bytes, sums + row * _SUMS_ROW
                                left = bottom - row
                                if left >= full:
                                    tile(lanes, has_dot, strategy, full, Operands(at, operands, steps), to, step)
                                    row += full
                                elif left >= half:
                                    tile(lanes, has_dot, strategy, half, Operands(at, operands, steps), to, step)
                                    row += half
                                elif left >= 3:
                                    tile(lanes, has_dot, strategy, 3, Operands(at, operands, steps), to, step)
                                    row += 3
                                else:
                                    tile(lanes, has_dot, strategy, 1, Operands(at, operands, steps), to, step)
                                    row += 1
                channel = block * CHANNELS
                finish_block(epilogue, out, channel, min(CHANNELS, weight.n - channel), scratch.sums, first, rows)
        return 0

    return task
