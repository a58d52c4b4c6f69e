"""The macro-kernel of the int8 tiles of any vector width: packed rows times the weight, block by block."""

import functools
from typing import Any, NamedTuple

import numpy as np

from sparse_rt_kernels.jit.compilation import Compiled, TaskFunction, kernel_jit
from sparse_rt_kernels.jit.compiler import carray
from sparse_rt_kernels.product.u8s8.operands import OPERAND_FIELDS, operands_in
from sparse_rt_kernels.product.u8s8.output import Output, finish_block
from sparse_rt_kernels.product.u8s8.panels import Pixels, pack_image_rows, pack_matrix_rows
from sparse_rt_kernels.product.u8s8.sizes import CHANNELS, ROWS, STEP
from sparse_rt_kernels.tiled_u8s8.blocking import Shape
from sparse_rt_kernels.tiled_u8s8.tile import Factors, expand, tile, widen
from sparse_rt_kernels.vectors.registers import REGISTER

__all__ = ["PRODUCT", "product_task"]

#: A product: `m` rows, in `row_parts` tasks times `channel_parts`; the weight, in blocks of 16 channels; the rows of a
#: matrix, relative to x, or where `words` is not 0 :class:`.panels.Pixels`, relative to `shared`; where results go, as
#: :class:`.output.Output` relative to ``out + out_offset``; :class:`.operands.Operands`; :class:`.blocking.Blocking`.
PRODUCT = np.dtype(
    [
        *((name, "i8") for name in ("row_parts", "channel_parts", "m")),
        *((name, "i8") for name in ("values", "index", "n", "steps", "blocks", "values_bytes", "index_bytes")),
        *((name, "i8") for name in ("x_stride", "columns", "flip")),
        *((name, "i8") for name in ("out_height", "out_width", "down", "right", "image_bytes", "words")),
        *((name, "i8") for name in ("out_offset", "itemsize", "out_stride", "pixels", "image_stride")),
        ("kind", "i8"),
        *OPERAND_FIELDS,
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
    """The rows of a matrix: first one, bytes from row to row, columns, and what each 8 bytes are xor-ed with."""

    address: int
    stride: int
    columns: int
    flip: int


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
def _pack_rows(matrix: Rows, pixels: Pixels, first: int, rows: int, steps: int, scratch: Scratch) -> int:
    """Fill the scratch's panels with rows [first, first + rows)."""
    if pixels.words == 0:
        at = matrix.address + first * matrix.stride
        pack_matrix_rows(at, matrix.stride, matrix.columns, rows, steps, scratch.table, scratch.panel, matrix.flip)
    else:
        pack_image_rows(pixels, first, rows, steps, scratch.table, scratch.panel)
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
def _pixels(a: Any, address: int) -> Pixels:
    return Pixels(address, a.out_height, a.out_width, a.down, a.right, a.image_bytes, a.words)


@kernel_jit
def _scratch(a: Any, base: int) -> Scratch:
    addresses = (base + a.panel, base + a.widened, base + a.operands, base + a.sums, base + a.table)
    return Scratch(a.block_rows, a.block_steps, *addresses)


@functools.cache
def _multiply_panel(shape: Shape) -> Compiled[[int, int, Factors, int], int]:
    """Return what multiplies up to 24 packed rows with a block of 16 channels, in tiles."""
    lanes, has_dot, strategy = shape
    full, half, halves = shape.rows, shape.rows // 2, CHANNELS // shape.lanes
    row_bytes, operand_bytes = shape.row_bytes, shape.operand_bytes

    @kernel_jit
    def multiply_panel(rows: int, block_sums: int, factors: Factors, resume: int) -> int:
        for part in range(halves):
            expanded, sums = factors.expanded + part * factors.steps * operand_bytes, block_sums + part * lanes * 4
            row = 0
            while row < rows:
                of, to = Factors(factors.panel + row * row_bytes, expanded, factors.steps), sums + row * REGISTER
                left = rows - row
                if left >= full:
                    tile(lanes, has_dot, strategy, full, of, to, resume)
                    row += full
                elif left >= half:
                    tile(lanes, has_dot, strategy, half, of, to, resume)
                    row += half
                elif left >= 3:
                    tile(lanes, has_dot, strategy, 3, of, to, resume)
                    row += 3
                else:
                    tile(lanes, has_dot, strategy, 1, of, to, resume)
                    row += 1
        return 0

    return multiply_panel


@functools.cache
def product_task(shape: Shape) -> TaskFunction:
    """Return the task that computes a part of a product, compiled for `shape`; see :data:`PRODUCT`."""
    # Compiled code is found again by what the function captures: by ints, and by names of compiled functions.
    lanes, has_dot, strategy = shape
    is_widened, step_bytes, multiply_panel = int(shape.is_widened), shape.step_bytes, _multiply_panel(shape)

    def task(task: int, arguments: Any, x: int, other: int, out_address: int, shared: int, scratch_address: int) -> int:
        """Compute the rows and channels that the task's number stands for."""
        a = carray(arguments, (1,), PRODUCT)[0]
        share, operands = _share(a, task), operands_in(a)
        matrix, pixels = Rows(x, a.x_stride, a.columns, a.flip), _pixels(a, shared)
        weight = Weight(a.values, a.index, a.n, a.steps, a.values_bytes, a.index_bytes)
        out = Output(a.kind, out_address + a.out_offset, a.itemsize, a.out_stride, a.pixels, a.image_stride)
        scratch = _scratch(a, scratch_address)
        panels = scratch.widened if is_widened else scratch.panel
        for first in range(share.first_row, share.last_row, scratch.rows):
            rows = min(scratch.rows, share.last_row - first)
            _pack_rows(matrix, pixels, first, rows, weight.steps, scratch)
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
                        factors = Factors(panel, scratch.operands, steps)
                        multiply_panel(min(ROWS, rows - top), scratch.sums + top * REGISTER, factors, step)
                channel = block * CHANNELS
                finish_block(operands, out, channel, min(CHANNELS, weight.n - channel), scratch.sums, first, rows)
        return 0

    return task
