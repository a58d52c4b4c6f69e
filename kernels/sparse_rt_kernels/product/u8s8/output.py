"""From sums to outputs: rows of a matrix, or planes of pixels."""

from typing import Any, NamedTuple

from sparse_rt_kernels.jit.compilation import kernel_jit
from sparse_rt_kernels.product.u8s8.finish import Block, finish_planes, finish_rows
from sparse_rt_kernels.product.u8s8.operands import BYTE, FLOAT32, INT32, Operands, operands_of
from sparse_rt_kernels.vectors.registers import REGISTER

__all__ = ["Output", "finish_block"]

#: Pixels that are stored to a plane at a time.
_GROUP = 16


class Output(NamedTuple):
    """Where results go, and what they are: INT32, FLOAT32 or BYTE.

    Row r and channel c of a matrix lie at ``address + r * stride + c * itemsize``; pixel p of image i at
    ``address + i * image_stride + c * stride + p * itemsize``, `pixels` being those of one image, 0 for a matrix.
    """

    kind: Any
    address: Any
    itemsize: Any
    stride: Any
    pixels: Any
    image_stride: Any


@kernel_jit
def _finish_rows(kind: int, block: Block, operands: Operands) -> int:
    if kind == INT32:
        finish_rows(INT32, block, operands)
    elif kind == FLOAT32:
        finish_rows(FLOAT32, block, operands)
    else:
        finish_rows(BYTE, block, operands)
    return 0


@kernel_jit
def _finish_planes(kind: int, block: Block, operands: Operands) -> int:
    if kind == INT32:
        finish_planes(INT32, block, operands)
    elif kind == FLOAT32:
        finish_planes(FLOAT32, block, operands)
    else:
        finish_planes(BYTE, block, operands)
    return 0


@kernel_jit
def finish_block(operands: Operands, out: Output, channel: int, channels: int, sums: int, first: int, rows: int) -> int:
    """Store the sums (rows, 16) int32 of rows [first, first + rows) and up to 16 channels.

    For planes 16 rows of sums are read at a time, wherever an image begins, whatever lies beyond the last row.
    """
    own = operands_of(operands, channel)
    if out.pixels == 0:
        place = out.address + first * out.stride + channel * out.itemsize
        return _finish_rows(out.kind, Block(sums, rows, channels, place, out.stride), own)
    row = 0
    while row < rows:
        image = (first + row) // out.pixels
        pixel = first + row - image * out.pixels
        count = min(_GROUP, rows - row, out.pixels - pixel)
        place = out.address + image * out.image_stride + channel * out.stride + pixel * out.itemsize
        _finish_planes(out.kind, Block(sums + row * REGISTER, count, channels, place, out.stride), own)
        row += count
    return 0
