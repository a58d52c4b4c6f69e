"""From sums to outputs: the family's epilogue, for rows of a matrix and for planes of pixels."""

from typing import NamedTuple

import numpy as np

from sparse_rt_kernels.jit.compilation import kernel_jit
from sparse_rt_kernels.product.u8s8.finish import BYTE, FLOAT32, INT32, finish_planes, finish_rows

__all__ = ["Epilogue", "Output", "finish_block"]

#: Bytes of one row of sums.
_ROW = 64
#: Pixels that are stored to a plane at a time.
_GROUP = 16


class Epilogue(NamedTuple):
    """The operands of :func:`finish_rows`, as addresses of the first channel, and the output's kind."""

    kind: int
    offset: int
    row_sums: int
    shift: int
    scale: int
    bias: int
    low: float
    high: float
    zero_point: int


class Output(NamedTuple):
    """Where results go, in bytes.

    Row r and channel c of a matrix lie at ``address + r * stride + c * itemsize``; pixel p of image i at
    ``address + i * image_stride + c * stride + p * itemsize``, `pixels` being those of one image, 0 for a matrix.
    """

    address: int
    itemsize: int
    stride: int
    pixels: int
    image_stride: int


@kernel_jit
def _finish_rows(e: Epilogue, channel: int, channels: int, sums: int, rows: int, out: int, stride: int) -> int:
    offset, row_sums = e.offset + 4 * channel, e.row_sums + 4 * channel
    scale, bias = e.scale + 4 * channel, e.bias + 4 * channel
    shift, low, high, zero = e.shift, np.float32(e.low), np.float32(e.high), e.zero_point
    if e.kind == INT32:
        finish_rows(INT32, sums, rows, out, stride, channels, offset, row_sums, shift, scale, bias, low, high, zero)
    elif e.kind == FLOAT32:
        finish_rows(FLOAT32, sums, rows, out, stride, channels, offset, row_sums, shift, scale, bias, low, high, zero)
    else:
        finish_rows(BYTE, sums, rows, out, stride, channels, offset, row_sums, shift, scale, bias, low, high, zero)
    return 0


@kernel_jit
def _finish_planes(e: Epilogue, channel: int, channels: int, sums: int, rows: int, out: int, stride: int) -> int:
    offset, row_sums = e.offset + 4 * channel, e.row_sums + 4 * channel
    scale, bias = e.scale + 4 * channel, e.bias + 4 * channel
    shift, low, high, zero = e.shift, np.float32(e.low), np.float32(e.high), e.zero_point
    if e.kind == INT32:
        finish_planes(INT32, sums, rows, out, stride, channels, offset, row_sums, shift, scale, bias, low, high, zero)
    elif e.kind == FLOAT32:
        finish_planes(FLOAT32, sums, rows, out, stride, channels, offset, row_sums, shift, scale, bias, low, high, zero)
    else:
        finish_planes(BYTE, sums, rows, out, stride, channels, offset, row_sums, shift, scale, bias, low, high, zero)
    return 0


@kernel_jit
def finish_block(epilogue: Epilogue, out: Output, channel: int, channels: int, sums: int, first: int, rows: int) -> int:
    """Store the sums (rows, 16) int32 of rows [first, first + rows) and up to 16 channels.

    For planes 16 rows of sums are read at a time, wherever an image begins, whatever lies beyond the last row.
    """
    if out.pixels == 0:
        target = out.address + first * out.stride + channel * out.itemsize
        _finish_rows(epilogue, channel, channels, sums, rows, target, out.stride)
        return 0
    row = 0
    while row < rows:
        image = (first + row) // out.pixels
        pixel = first + row - image * out.pixels
        count = min(_GROUP, rows - row, out.pixels - pixel)
        target = out.address + image * out.image_stride + channel * out.stride + pixel * out.itemsize
        _finish_planes(epilogue, channel, channels, sums + row * _ROW, count, target, out.stride)
        row += count
    return 0
