"""The macro-kernel of the int8 2:4 family: packed rows times the weight, block by block, through the epilogue."""

from typing import NamedTuple

import numpy as np

from sparse_rt_kernels.jit import kernel_jit
from sparse_rt_kernels.n2m4_u8s8 import micro
from sparse_rt_kernels.n2m4_u8s8.finish import BYTE, FLOAT32, INT32, finish_planes, finish_rows
from sparse_rt_kernels.n2m4_u8s8.fused import tile_to_bytes
from sparse_rt_kernels.n2m4_u8s8.layout import CHANNELS, ROWS, STEP
from sparse_rt_kernels.n2m4_u8s8.moves import put_octet
from sparse_rt_kernels.n2m4_u8s8.panels import (
    FEW_ROWS,
    pack_few_rows,
    pack_image_rows,
    pack_matrix_rows,
    pack_plane_pixels,
)

__all__ = ["Epilogue", "Output", "Scratch", "Weight", "conv_task", "matmul_task", "pointwise_task"]

_PANEL_STEP = ROWS * STEP
_REGISTER = 64


class Weight(NamedTuple):
    """Addresses and sizes of a packed weight, and which of its channel blocks a task multiplies."""

    values: int
    indexes: int
    n: int
    steps: int
    first_block: int
    last_block: int


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
def _stream_rows(
    rows: int, panel: int, panel_step: int, values: int, index: int, steps: int, sums: int, resume: int
) -> int:
    """Multiply fewer than 24 rows with 16 channels, in tiles of 16, 8, 4, 2 and 1."""
    if rows >= 16:
        micro.stream_tile(16, 1, 1, panel, panel_step, values, 0, index, 0, steps, sums, resume)
        panel, sums, rows = panel + 16 * STEP, sums + 16 * _REGISTER, rows - 16
    if rows >= 8:
        micro.stream_tile(8, 1, 1, panel, panel_step, values, 0, index, 0, steps, sums, resume)
        panel, sums, rows = panel + 8 * STEP, sums + 8 * _REGISTER, rows - 8
    if rows >= 4:
        micro.stream_tile(4, 1, 1, panel, panel_step, values, 0, index, 0, steps, sums, resume)
        panel, sums, rows = panel + 4 * STEP, sums + 4 * _REGISTER, rows - 4
    if rows >= 2:
        micro.stream_tile(2, 2, 1, panel, panel_step, values, 0, index, 0, steps, sums, resume)
        panel, sums, rows = panel + 2 * STEP, sums + 2 * _REGISTER, rows - 2
    if rows == 1:
        micro.stream_tile(1, 4, 1, panel, panel_step, values, 0, index, 0, steps, sums, resume)
    return 0


@kernel_jit
def _stream_pair(rows: int, panel: int, panel_step: int, values: int, index: int, steps: int, sums: int) -> int:
    """Multiply up to 16 rows with 32 channels; the second 16 channels' sums follow 24 rows after the first's."""
    second, following = steps * _REGISTER, steps * CHANNELS
    if rows >= 8:
        # Enough rows to hide their broadcasts, and soon too many accumulators for two blocks.
        _stream_rows(rows, panel, panel_step, values, index, steps, sums, 0)
        sums += ROWS * _REGISTER
        return _stream_rows(rows, panel, panel_step, values + second, index + following, steps, sums, 0)
    if rows >= 4:
        micro.stream_tile(4, 1, 2, panel, panel_step, values, second, index, following, steps, sums, 0)
        panel, sums, rows = panel + 4 * STEP, sums + 4 * _REGISTER, rows - 4
    if rows >= 2:
        micro.stream_tile(2, 1, 2, panel, panel_step, values, second, index, following, steps, sums, 0)
        panel, sums, rows = panel + 2 * STEP, sums + 2 * _REGISTER, rows - 2
    if rows == 1:
        micro.stream_tile(1, 2, 2, panel, panel_step, values, second, index, following, steps, sums, 0)
    return 0


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
        _finish_planes(epilogue, channel, channels, sums + row * _REGISTER, count, target, out.stride)
        row += count
    return 0


@kernel_jit
def _tile_to_bytes(
    epilogue: Epilogue,
    channel: int,
    panel: int,
    values: int,
    controls: int,
    steps: int,
    sums: int,
    resume: int,
    first: int,
    out: Output,
) -> int:
    """Multiply a full tile and store it as bytes, straight from registers; return 0 if it spans two images."""
    e = epilogue
    offset, row_sums = e.offset + 4 * channel, e.row_sums + 4 * channel
    scale, bias = e.scale + 4 * channel, e.bias + 4 * channel
    shift, low, high, zero_point, sign = e.shift, np.float32(e.low), np.float32(e.high), e.zero_point, e.sign
    stride = out.stride
    if out.pixels == 0:
        place = out.address + first * stride + channel
        tile_to_bytes(
            0,
            panel,
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
        return 1
    image = first // out.pixels
    pixel = first - image * out.pixels
    if pixel + ROWS > out.pixels:
        return 0
    place = out.address + image * out.image_stride + channel * stride + pixel
    tile_to_bytes(
        1,
        panel,
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
    return 1


@kernel_jit
def _multiply_block(
    weight: Weight,
    block: int,
    first: int,
    rows: int,
    scratch: Scratch,
    epilogue: Epilogue,
    out: Output,
) -> int:
    """Multiply the packed rows [first, first + rows) with one block of 16 channels, and store the outputs."""
    channel = block * CHANNELS
    channels = min(CHANNELS, weight.n - channel)
    at = block * weight.steps
    values, index = weight.values + at * _REGISTER, weight.indexes + at * CHANNELS
    if rows < ROWS:
        _stream_rows(rows, scratch.panel, _PANEL_STEP, values, index, weight.steps, scratch.sums, 0)
        return _store_block(epilogue, channel, channels, scratch.sums, first, rows, out)
    for step in range(0, weight.steps, scratch.steps):
        steps = min(scratch.steps, weight.steps - step)
        is_last = step + steps == weight.steps
        fused = is_last and epilogue.kind == BYTE and channels == CHANNELS
        micro.expand_index(index, steps, scratch.controls)
        for row in range(0, rows, ROWS):
            count = min(ROWS, rows - row)
            panel = scratch.panel + (row // ROWS * weight.steps + step) * _PANEL_STEP
            # Sums outlive their tile only where the reduction is blocked.
            sums = scratch.sums if weight.steps <= scratch.steps else scratch.sums + row * _REGISTER
            if fused and count == ROWS:
                done = _tile_to_bytes(
                    epilogue, channel, panel, values, scratch.controls, steps, sums, step, first + row, out
                )
                if done:
                    continue
            if count == ROWS:
                micro.tile(panel, values, scratch.controls, steps, sums, step)
            else:
                _stream_rows(count, panel, _PANEL_STEP, values, index, steps, sums, step)
            if is_last:
                _store_block(epilogue, channel, channels, sums, first + row, count, out)
        values, index = values + steps * _REGISTER, index + steps * CHANNELS
    return 0


@kernel_jit
def _multiply_few(weight: Weight, first: int, rows: int, scratch: Scratch, epilogue: Epilogue, out: Output) -> int:
    """Multiply up to 16 packed rows without gaps with all blocks of channels, two at a time, and store the outputs."""
    steps = weight.steps
    block = weight.first_block
    while block < weight.last_block:
        values, index = weight.values + block * steps * _REGISTER, weight.indexes + block * steps * CHANNELS
        pair = min(2, weight.last_block - block)
        if pair == 2:
            _stream_pair(rows, scratch.panel, rows * STEP, values, index, steps, scratch.sums)
        else:
            _stream_rows(rows, scratch.panel, rows * STEP, values, index, steps, scratch.sums, 0)
        for each in range(pair):
            channel = (block + each) * CHANNELS
            sums = scratch.sums + each * ROWS * _REGISTER
            _store_block(epilogue, channel, min(CHANNELS, weight.n - channel), sums, first, rows, out)
        block += pair
    return 0


@kernel_jit
def _split(extent: int, unit: int, part: int, parts: int) -> tuple[int, int]:
    """Return the `part`-th of `parts` nearly equal ranges of [0, extent), cut at multiples of `unit`."""
    units = (extent + unit - 1) // unit
    return units * part // parts * unit, min(extent, units * (part + 1) // parts * unit)


@kernel_jit
def matmul_task(
    task: int,
    row_parts: int,
    channel_parts: int,
    x: int,
    x_stride: int,
    columns: int,
    m: int,
    flip: int,
    values: int,
    index: int,
    n: int,
    steps: int,
    out: int,
    out_stride: int,
    itemsize: int,
    kind: int,
    offset: int,
    row_sums: int,
    shift: int,
    scale: int,
    bias: int,
    low: float,
    high: float,
    zero_point: int,
    sign: int,
    block_rows: int,
    block_steps: int,
    panel: int,
    controls: int,
    sums: int,
    table: int,
) -> int:
    """Compute one task of ``out = epilogue(x @ w.T)``: rows and channels that the task's number stands for.

    All of `x` to `table` are the fields of the tuples above, and addresses; x is (m, columns) bytes.
    """
    first_row, last_row = _split(m, ROWS, task // channel_parts, row_parts)
    first_channel, last_channel = _split(n, CHANNELS, task % channel_parts, channel_parts)
    weight = Weight(values, index, n, steps, first_channel // CHANNELS, (last_channel + CHANNELS - 1) // CHANNELS)
    epilogue = Epilogue(kind, offset, row_sums, shift, scale, bias, low, high, zero_point, sign)
    scratch = Scratch(block_rows, block_steps, panel, controls, sums, table)
    target = Output(out, itemsize, out_stride, 0, 0)
    for first in range(first_row, last_row, block_rows):
        rows = min(block_rows, last_row - first)
        source = x + first * x_stride
        if rows <= FEW_ROWS:
            pack_few_rows(source, x_stride, columns, rows, steps, panel, flip)
            _multiply_few(weight, first, rows, scratch, epilogue, target)
            continue
        pack_matrix_rows(source, x_stride, columns, rows, steps, table, panel, flip)
        for block in range(weight.first_block, weight.last_block):
            _multiply_block(weight, block, first, rows, scratch, epilogue, target)
    return 0


@kernel_jit
def _pixel_addresses(
    first: int,
    rows: int,
    staged: int,
    height: int,
    width: int,
    down: int,
    right: int,
    image_bytes: int,
    table: int,
) -> int:
    """Fill in where output pixels [first, first + rows) begin, the last one repeated up to a multiple of 8."""
    image = first // (height * width)
    row = first // width - image * height
    column = first - first // width * width
    address = 0
    for slot in range((rows + 7) // 8 * 8):
        if slot < rows:
            address = staged + image * image_bytes + row * down + column * right
            column += 1
            if column == width:
                column, row = 0, row + 1
                if row == height:
                    row, image = 0, image + 1
        put_octet(table + slot * 8, address)
    return 0


@kernel_jit
def conv_task(
    task: int,
    row_parts: int,
    channel_parts: int,
    staged: int,
    words: int,
    images: int,
    out_height: int,
    out_width: int,
    down: int,
    right: int,
    image_bytes: int,
    values: int,
    index: int,
    n: int,
    steps: int,
    out: int,
    itemsize: int,
    kind: int,
    offset: int,
    row_sums: int,
    shift: int,
    scale: int,
    bias: int,
    low: float,
    high: float,
    zero_point: int,
    sign: int,
    block_rows: int,
    block_steps: int,
    panel: int,
    controls: int,
    sums: int,
    table: int,
) -> int:
    """Compute one task of a convolution over a staged, channels-last image.

    Output pixel (p, q) of image i begins at ``staged + i * image_bytes + p * down + q * right``; `words` are the
    offsets from there of each 4 reduction elements. The other parameters are those of :func:`matmul_task`.
    """
    pixels = out_height * out_width
    first_row, last_row = _split(images * pixels, ROWS, task // channel_parts, row_parts)
    first_channel, last_channel = _split(n, CHANNELS, task % channel_parts, channel_parts)
    weight = Weight(values, index, n, steps, first_channel // CHANNELS, (last_channel + CHANNELS - 1) // CHANNELS)
    epilogue = Epilogue(kind, offset, row_sums, shift, scale, bias, low, high, zero_point, sign)
    scratch = Scratch(block_rows, block_steps, panel, controls, sums, table)
    planes = Output(out, itemsize, pixels * itemsize, pixels, n * pixels * itemsize)
    for first in range(first_row, last_row, block_rows):
        rows = min(block_rows, last_row - first)
        _pixel_addresses(first, rows, staged, out_height, out_width, down, right, image_bytes, table)
        pack_image_rows(table, rows, words, steps, panel)
        for block in range(weight.first_block, weight.last_block):
            _multiply_block(weight, block, first, rows, scratch, epilogue, planes)
    return 0


@kernel_jit
def pointwise_task(
    task: int,
    row_parts: int,
    channel_parts: int,
    x: int,
    images: int,
    channels: int,
    pixels: int,
    flip: int,
    values: int,
    index: int,
    n: int,
    steps: int,
    out: int,
    itemsize: int,
    kind: int,
    offset: int,
    row_sums: int,
    shift: int,
    scale: int,
    bias: int,
    low: float,
    high: float,
    zero_point: int,
    sign: int,
    block_rows: int,
    block_steps: int,
    panel: int,
    controls: int,
    sums: int,
    table: int,
) -> int:
    """Compute one task of a 1x1 convolution, packed straight from (images, channels, pixels) bytes at `x`.

    Work is split within each image. The other parameters are those of :func:`matmul_task`.
    """
    first_row, last_row = _split(pixels, ROWS, task // channel_parts, row_parts)
    first_channel, last_channel = _split(n, CHANNELS, task % channel_parts, channel_parts)
    weight = Weight(values, index, n, steps, first_channel // CHANNELS, (last_channel + CHANNELS - 1) // CHANNELS)
    epilogue = Epilogue(kind, offset, row_sums, shift, scale, bias, low, high, zero_point, sign)
    scratch = Scratch(block_rows, block_steps, panel, controls, sums, table)
    planes = Output(out, itemsize, pixels * itemsize, pixels, n * pixels * itemsize)
    for image in range(images):
        source = x + image * channels * pixels
        for first in range(first_row, last_row, block_rows):
            rows = min(block_rows, last_row - first)
            pack_plane_pixels(source, channels, pixels, first, rows, steps, panel, flip)
            for block in range(weight.first_block, weight.last_block):
                _multiply_block(weight, block, image * pixels + first, rows, scratch, epilogue, planes)
    return 0
