"""Panels of X of the float32 tiles of any vector width; which of both widths, is known when they run."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparse_rt_kernels.jit.compilation import kernel_jit
from sparse_rt_kernels.product.f32.call import Call
from sparse_rt_kernels.product.f32.weight import REDUCTION
from sparse_rt_kernels.product.indirection import Indirection, lane_offsets
from sparse_rt_kernels.product.weight import CHANNEL_MULTIPLE
from sparse_rt_kernels.tiled_f32.tile import copy, transpose

__all__ = ["Block", "pixels_into_panel", "rows_into_panel"]


class Block(NamedTuple):
    """One panel block: which image, rows (in registers) and octets (8 reduction elements) it holds."""

    image: int
    first_row: int
    vectors: int
    first_octet: int
    octets: int


@kernel_jit
def _is_straight(offsets: NDArray[np.int32], first: int, lanes: int) -> bool:
    """Return whether lanes [first, first + lanes) read neighbours."""
    start = offsets[first]
    straight = start >= 0
    for lane in range(lanes):
        straight &= offsets[first + lane] == start + lane
    return bool(straight)


@kernel_jit
def rows_into_panel(lanes: int, call: Call, block: Block, panel: int) -> int:
    """``panel[k, p] = x[first_row + p, k0 + k]`` for the rows and k of a block, zero beyond x.

    Returns 0 if all are finite.

    There is room for `lanes` rows more than those of a block.
    """
    k0, length = block.first_octet * REDUCTION, block.octets * REDUCTION
    present = max(0, min(length, call.columns - k0))
    row_bytes, spoiled = block.vectors * lanes * 4, 0
    for vector in range(block.vectors):
        row = block.first_row + vector * lanes
        source, to = call.x + row * call.x_stride + k0 * 4, panel + vector * lanes * 4
        left = call.rows - row
        if lanes == 16:
            spoiled |= transpose.transpose_in(16, source, call.x_stride, left, present, to, row_bytes)
        else:
            spoiled |= transpose.transpose_in(8, source, call.x_stride, left, present, to, row_bytes)
    filled = (present + lanes - 1) // lanes * lanes
    if filled < length:
        copy.zero_bytes(panel + filled * row_bytes, (length - filled) * row_bytes)
    return spoiled


@kernel_jit
def _channels_into_panel(
    lanes: int, source: int, stride: int, offsets: NDArray[np.int32], count: int, to: int, row_bytes: int
) -> int:
    """Bring in `count` input channels, the lanes' `offsets` in each being the same. Returns 0 if all are finite."""
    spoiled = 0
    for first in range(0, offsets.size, lanes):
        out = to + first * 4
        if _is_straight(offsets, first, lanes):
            at = source + int(offsets[first]) * 4
            if lanes == 16:
                spoiled |= copy.copy_lanes(16, at, stride, count, out, row_bytes)
            else:
                spoiled |= copy.copy_lanes(8, at, stride, count, out, row_bytes)
        else:
            where = int(np.intp(offsets.ctypes.data)) + first * 4
            if lanes == 16:
                spoiled |= copy.gather_lanes(16, source, stride, where, count, out, row_bytes)
            else:
                spoiled |= copy.gather_lanes(8, source, stride, where, count, out, row_bytes)
    return spoiled


@kernel_jit
def pixels_into_panel(
    lanes: int, x: int, indirection: Indirection, block: Block, panel: int, table: NDArray[np.int32]
) -> int:
    """``panel[k, p]`` = the element of a block's image, of those at address x, that lane p reads at index k0 + k.

    `table` is (3, width): each lane's row and column of :func:`lane_origins`, and room for offsets. Returns 0 if all
    are finite.
    """
    k0, length = block.first_octet * REDUCTION, block.octets * REDUCTION
    row_bytes, plane = table.shape[1] * 4, indirection.height * indirection.width * 4
    image = x + block.image * indirection.channels * plane
    padded = -(-indirection.channels // CHANNEL_MULTIPLE) * CHANNEL_MULTIPLE
    end = min(k0 + length, padded * indirection.kernel_rows * indirection.kernel_columns)
    k, spoiled = k0, 0
    while k < end:
        position = k // padded
        first = position * padded
        stop = min(end, first + padded)
        present = 0
        if lane_offsets(indirection, position, table[0], table[1], table[2]) > 0:
            present = max(0, min(stop, first + indirection.channels) - k)
        to = panel + (k - k0) * row_bytes
        spoiled |= _channels_into_panel(lanes, image + (k - first) * plane, plane, table[2], present, to, row_bytes)
        if present < stop - k:
            copy.zero_bytes(to + present * row_bytes, (stop - k - present) * row_bytes)
        k = stop
    if k < k0 + length:
        copy.zero_bytes(panel + (k - k0) * row_bytes, (k0 + length - k) * row_bytes)
    return spoiled
