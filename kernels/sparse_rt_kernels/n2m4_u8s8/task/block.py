"""The macro-kernel of the int8 2:4 family: packed rows times the weight, block by block, through the epilogue."""

from typing import NamedTuple

import numpy as np

from sparse_rt_kernels.jit.compilation import kernel_jit
from sparse_rt_kernels.n2m4_u8s8.task.small_m import stream_few, stream_pair, stream_rows
from sparse_rt_kernels.n2m4_u8s8.tile import rows as micro
from sparse_rt_kernels.n2m4_u8s8.tile.rows_to_bytes import tiles_to_bytes
from sparse_rt_kernels.product.u8s8.finish import BYTE, FLOAT32, INT32, finish_planes, finish_rows
from sparse_rt_kernels.product.u8s8.sizes import CHANNELS, PANEL_STEP, ROWS, STEP
from sparse_rt_kernels.vectors.registers import REGISTER

__all__ = ["Epilogue", "Output", "Rows", "Scratch", "Weight", "multiply_block", "multiply_few", "packed_rows"]


class Weight(NamedTuple):
    """Addresses and sizes of a packed weight, and which of its channel blocks a task multiplies."""

    values: int
    indexes: int
    n: int
    steps: int
    first_block: int
    last_block: int


class Rows(NamedTuple):
    """Where the activation rows of a block lie.

    8 bytes of row r and step s of tile t at ``address + t * tile + r * row + s * step``; the rows that fill no tile of
    24 are packed at `rest`, (steps, 24, 8).
    """

    address: int
    row: int
    step: int
    tile: int
    rest: int


class Scratch(NamedTuple):
    """Addresses in a thread's scratch and the sizes of its blocks; see :class:`blocking.Blocking`."""

    rows: int
    steps: int
    panel: int
    controls: int
    sums: int
    table: int


class Epilogue(NamedTuple):
    """The operands of :func:`finish.finish_rows`, as addresses of the first channel, and the output's kind.

    `sign` is what byte outputs differ by from uint8: 128 for int8, else 0.
    """

    kind: int
    offset: int
    row_sums: int
    shift: int
    scale: int
    bias: int
    low: float
    high: float
    zero_point: int
    sign: int


class Output(NamedTuple):
    """Where results go.

    Row-major (`pixels` is 0): element (row, channel) at ``address + row * stride + channel * itemsize``. Planes: the
    rows are output pixels, counted over images; pixel p of image i and channel c at ``address + i * image_stride +
    c * stride + p * itemsize``.
    """

    address: int
    itemsize: int
    stride: int
    pixels: int
    image_stride: int


@kernel_jit
def _multiply_rest(
    rows: int, panel: int, values: int, controls: int, index: int, steps: int, sums: int, resume: int
) -> int:
    """Multiply fewer than 24 packed rows with 16 channels: tiles of 16 and 8 with expanded controls, then streams."""
    if rows >= 16:
        micro.tile(16, panel, STEP, PANEL_STEP, values, controls, steps, sums, resume)
        panel, sums, rows = panel + 16 * STEP, sums + 16 * REGISTER, rows - 16
    if rows >= 8:
        micro.tile(8, panel, STEP, PANEL_STEP, values, controls, steps, sums, resume)
        panel, sums, rows = panel + 8 * STEP, sums + 8 * REGISTER, rows - 8
    return stream_few(rows, panel, PANEL_STEP, values, index, steps, sums, resume)


@kernel_jit
def _finish_rows(epilogue: Epilogue, channel: int, channels: int, sums: int, rows: int, out: int, stride: int) -> int:
    e = epilogue
    offset, row_sums = e.offset + 4 * channel, e.row_sums + 4 * channel
    scale, bias = e.scale + 4 * channel, e.bias + 4 * channel
    shift, low, high, zero_point = e.shift, np.float32(e.low), np.float32(e.high), e.zero_point
    if e.kind == INT32:
        finish_rows(
            INT32, sums, rows, out, stride, channels, offset, row_sums, shift, scale, bias, low, high, zero_point
        )
    elif e.kind == FLOAT32:
        finish_rows(
            FLOAT32, sums, rows, out, stride, channels, offset, row_sums, shift, scale, bias, low, high, zero_point
        )
    else:
        finish_rows(
            BYTE, sums, rows, out, stride, channels, offset, row_sums, shift, scale, bias, low, high, zero_point
        )
    return 0


@kernel_jit
def _finish_planes(epilogue: Epilogue, channel: int, channels: int, sums: int, rows: int, out: int, stride: int) -> int:
    e = epilogue
    offset, row_sums = e.offset + 4 * channel, e.row_sums + 4 * channel
    scale, bias = e.scale + 4 * channel, e.bias + 4 * channel
    shift, low, high, zero_point = e.shift, np.float32(e.low), np.float32(e.high), e.zero_point
    if e.kind == INT32:
        finish_planes(
            INT32, sums, rows, out, stride, channels, offset, row_sums, shift, scale, bias, low, high, zero_point
        )
    elif e.kind == FLOAT32:
        finish_planes(
            FLOAT32, sums, rows, out, stride, channels, offset, row_sums, shift, scale, bias, low, high, zero_point
        )
    else:
        finish_planes(
            BYTE, sums, rows, out, stride, channels, offset, row_sums, shift, scale, bias, low, high, zero_point
        )
    return 0


@kernel_jit
def _store_block(epilogue: Epilogue, channel: int, channels: int, sums: int, first: int, rows: int, out: Output) -> int:
    """Turn sums of rows [first, first + rows) into outputs."""
    if out.pixels == 0:
        place = out.address + first * out.stride + channel * out.itemsize
        return _finish_rows(epilogue, channel, channels, sums, rows, place, out.stride)
    row = 0
    while row < rows:
        image = (first + row) // out.pixels
        pixel = first + row - image * out.pixels
        count = min(16, rows - row, out.pixels - pixel)
        target = out.address + image * out.image_stride + channel * out.stride + pixel * out.itemsize
        _finish_planes(epilogue, channel, channels, sums + row * REGISTER, count, target, out.stride)
        row += count
    return 0


@kernel_jit
def _tiles_to_bytes(
    epilogue: Epilogue,
    channel: int,
    tiles: int,
    x: int,
    x_rows: Rows,
    values: int,
    controls: int,
    steps: int,
    sums: int,
    resume: int,
    first: int,
    out: Output,
) -> int:
    """Multiply full tiles and store them as bytes, straight from registers; return how many: none that spans images."""
    e = epilogue
    offset, row_sums = e.offset + 4 * channel, e.row_sums + 4 * channel
    scale, bias = e.scale + 4 * channel, e.bias + 4 * channel
    shift, low, high, zero_point, sign = e.shift, np.float32(e.low), np.float32(e.high), e.zero_point, e.sign
    stride = out.stride
    if out.pixels == 0:
        place = out.address + first * stride + channel
        tiles_to_bytes(
            0,
            tiles,
            x,
            x_rows.row,
            x_rows.step,
            x_rows.tile,
            values,
            controls,
            steps,
            sums,
            resume,
            place,
            stride,
            offset,
            row_sums,
            shift,
            scale,
            bias,
            low,
            high,
            zero_point,
            sign,
        )
        return tiles
    image = first // out.pixels
    pixel = first - image * out.pixels
    tiles = min(tiles, (out.pixels - pixel) // ROWS)
    place = out.address + image * out.image_stride + channel * stride + pixel
    tiles_to_bytes(
        1,
        tiles,
        x,
        x_rows.row,
        x_rows.step,
        x_rows.tile,
        values,
        controls,
        steps,
        sums,
        resume,
        place,
        stride,
        offset,
        row_sums,
        shift,
        scale,
        bias,
        low,
        high,
        zero_point,
        sign,
    )
    return tiles


@kernel_jit
def packed_rows(panel: int, rows: int, steps: int) -> Rows:
    """Return where `rows` rows lie that were packed at `panel`, (steps, 24, 8) a tile."""
    tile = steps * PANEL_STEP
    return Rows(panel, STEP, PANEL_STEP, tile, panel + rows // ROWS * tile)


@kernel_jit
def multiply_block(
    weight: Weight,
    block: int,
    first: int,
    rows: int,
    x_rows: Rows,
    scratch: Scratch,
    epilogue: Epilogue,
    out: Output,
) -> int:
    """Multiply the rows [first, first + rows), which lie at `x_rows`, with one block of 16 channels; store outputs."""
    channel = block * CHANNELS
    channels = min(CHANNELS, weight.n - channel)
    at = block * weight.steps
    values, index = weight.values + at * REGISTER, weight.indexes + at * CHANNELS
    if rows < ROWS:
        controls, most = scratch.controls, scratch.steps
        stream_rows(rows, x_rows.rest, PANEL_STEP, values, index, weight.steps, controls, most, scratch.sums)
        return _store_block(epilogue, channel, channels, scratch.sums, first, rows, out)
    for step in range(0, weight.steps, scratch.steps):
        steps = min(scratch.steps, weight.steps - step)
        is_last = step + steps == weight.steps
        fused = is_last and epilogue.kind == BYTE and channels == CHANNELS
        micro.expand_index(index, steps, scratch.controls)
        row = 0
        while row < rows:
            count = min(ROWS, rows - row)
            x = x_rows.address + row // ROWS * x_rows.tile + step * x_rows.step
            # Sums outlive their tile only where the reduction is blocked.
            sums = scratch.sums if weight.steps <= scratch.steps else scratch.sums + row * REGISTER
            if fused and count == ROWS:
                tiles = (rows - row) // ROWS
                done = _tiles_to_bytes(
                    epilogue, channel, tiles, x, x_rows, values, scratch.controls, steps, sums, step, first + row, out
                )
                if done:
                    row += done * ROWS
                    continue
            if count == ROWS:
                micro.tile(24, x, x_rows.row, x_rows.step, values, scratch.controls, steps, sums, step)
            else:
                panel = x_rows.rest + step * PANEL_STEP
                _multiply_rest(count, panel, values, scratch.controls, index, steps, sums, step)
            if is_last:
                _store_block(epilogue, channel, channels, sums, first + row, count, out)
            row += count
        values, index = values + steps * REGISTER, index + steps * CHANNELS
    return 0


@kernel_jit
def multiply_few(weight: Weight, first: int, rows: int, scratch: Scratch, epilogue: Epilogue, out: Output) -> int:
    """Multiply up to 16 packed rows without gaps with all blocks of channels, two at a time, and store the outputs."""
    steps, controls, most = weight.steps, scratch.controls, scratch.steps
    block = weight.first_block
    while block < weight.last_block:
        values, index = weight.values + block * steps * REGISTER, weight.indexes + block * steps * CHANNELS
        pair = min(2, weight.last_block - block)
        if pair == 2:
            stream_pair(rows, scratch.panel, rows * STEP, values, index, steps, controls, most, scratch.sums)
        else:
            stream_rows(rows, scratch.panel, rows * STEP, values, index, steps, controls, most, scratch.sums)
        for each in range(pair):
            channel = (block + each) * CHANNELS
            sums = scratch.sums + each * ROWS * REGISTER
            _store_block(epilogue, channel, min(CHANNELS, weight.n - channel), sums, first, rows, out)
        block += pair
    return 0
