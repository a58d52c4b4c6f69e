"""The task of a direct convolution: stage some rows, multiply them, and so on."""

import functools
from typing import Any

import numpy as np

from sparse_rt_kernels.between.direct_convolution.moves import copy_words, fill_words, transpose_words
from sparse_rt_kernels.between.direct_convolution.tile import CHANNELS, Floats, Row, bytes_row, floats_row
from sparse_rt_kernels.jit.compilation import TaskFunction, kernel_jit
from sparse_rt_kernels.jit.compiler import carray
from sparse_rt_kernels.product.u8s8.operands import OPERAND_FIELDS, operands_in, operands_of

__all__ = ["CONVOLUTION", "convolution_task"]

_PAIR = 2 * CHANNELS
#: `images` images of `channels` channels become `n` channels; output rows are counted over the batch and cut into
#: `row_parts`, pairs of blocks of 16 channels into `channel_parts`. `pad` is a word of padding, `flip` a byte: see
#: :func:`moves.transpose_words`. The others are fields of :class:`layout.StagedImage`, the weight, and
#: :class:`.operands.Operands`, of which floats have `bias`, `low` and `high` only.
CONVOLUTION = np.dtype(
    [
        *((name, "i8") for name in ("row_parts", "channel_parts", "images", "channels", "n", "pad", "flip")),
        *((name, "i8") for name in ("height", "width", "out_height", "out_width", "down", "top", "left")),
        *((name, "i8") for name in ("planes", "padded_width", "reach", "chunk_rows", "row_bytes", "plane_bytes")),
        *((name, "i8") for name in ("words", "steps", "values", "block_bytes")),
        *OPERAND_FIELDS,
    ]
)


@kernel_jit
def _part(part: int, parts: int, extent: int) -> tuple[int, int]:
    """Return the `part`-th of `parts` nearly equal ranges of [0, extent)."""
    return extent * part // parts, extent * (part + 1) // parts


@kernel_jit
def _byte_words(source: int, plane: int, planes: int, width: int, out: int, flip: int) -> int:
    """Transpose a row of up to 4 planes of bytes to words, whole registers of them."""
    for pixel in range(0, width, 64):
        transpose_words(source + pixel, plane, planes, width - pixel, out + 4 * pixel, flip)
    return 0


@kernel_jit
def _stage(a: Any, is_float: int, image: int, first: int, rows: int, out: int) -> int:
    """Stage `rows` rows of the image at `image`, beginning with input row `first`, which may be outside."""
    width, left, pad, flip = a.width, a.left, a.pad, a.flip
    plane, right = a.height * width, a.padded_width - left - width
    for number in range(a.planes):
        source = image + 4 * number * plane
        if left + right == 0 and first >= 0 and first + rows <= a.height:
            # Without padding rows follow each other here and there: they are one.
            place, at = out + number * a.plane_bytes, first * width
            if is_float:
                copy_words(source + at * 4, rows * width, place)
            else:
                _byte_words(source + at, plane, a.channels - 4 * number, rows * width, place, flip)
            continue
        for row in range(rows):
            place, at = out + number * a.plane_bytes + row * a.row_bytes, first + row
            if at < 0 or at >= a.height:
                fill_words(place, a.padded_width, pad)
                continue
            fill_words(place, left, pad)
            if is_float:
                copy_words(source + at * width * 4, width, place + left * 4)
            else:
                _byte_words(source + at * width, plane, a.channels - 4 * number, width, place + left * 4, flip)
            # Whole registers were stored: padding comes after.
            fill_words(place + (left + width) * 4, right, pad)
    return 0


@kernel_jit
def _pair(a: Any, is_float: int, distance: int, image: int, row: int, row_of_x: int, pair: int, out: int) -> int:
    """Compute an output row of one pair of blocks of channels; `is_float` and `distance` are literals.

    `row` is that of image number `image`, and `row_of_x` where the first of the rows that it reads is staged.
    """
    item = 4 if is_float else 1
    width, channel = a.out_width, pair * _PAIR
    stride = a.out_height * width * item
    to = out + (image * a.n + channel) * stride + row * width * item
    values = a.values + 2 * pair * a.block_bytes
    pixels = Row(a.n - channel, row_of_x, a.words, a.steps, values, a.block_bytes, width, to, stride)
    operands = operands_of(operands_in(a), channel)
    if is_float:
        return floats_row(distance, pixels, Floats(operands.bias, operands.low, operands.high))
    return bytes_row(distance, pixels, operands)


@functools.cache
def convolution_task(is_float: int, distance: int) -> TaskFunction:
    """Return the task for floats or bytes, and pixels that are `distance` bytes apart; see :data:`CONVOLUTION`."""
    # Compiled code is found again by what the function captures: by ints, but not by other compiled functions.
    item = 4 if is_float else 1

    def task(task: int, arguments: Any, x: int, other: int, out: int, shared: int, scratch: int) -> int:
        """Compute one task of a convolution: a range of output rows, and a range of channels."""
        a = carray(arguments, (1,), CONVOLUTION)[0]
        row_part, channel_part = task // a.channel_parts, task % a.channel_parts
        row, last = _part(row_part, a.row_parts, a.images * a.out_height)
        first_pair, last_pair = _part(channel_part, a.channel_parts, (a.n + _PAIR - 1) // _PAIR)
        while row < last:
            image = row // a.out_height
            first = row - image * a.out_height
            count = min(a.chunk_rows, a.out_height - first, last - row)
            source = x + image * a.channels * a.height * a.width * item
            _stage(a, is_float, source, first * a.down - a.top, (count - 1) * a.down + a.reach, scratch)
            for pair in range(first_pair, last_pair):
                for each in range(count):
                    x_row = scratch + each * a.down * a.row_bytes
                    _pair(a, is_float, distance, image, first + each, x_row, pair, out)
            row += count
        return 0

    return task
