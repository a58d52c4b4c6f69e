"""Panels of X of the float32 2:4 family: rows transposed, pixels copied or gathered."""

import numpy as np
from numpy.typing import NDArray

from sparse_rt_kernels.jit.compilation import kernel_jit
from sparse_rt_kernels.n2m4_f32.blocking.panels import MAX_VECTORS
from sparse_rt_kernels.n2m4_f32.tile.copy import (
    copy_lanes,
    copy_rows,
    first_lane,
    gather_lanes,
    lanes_on_line,
    zero_lanes,
)
from sparse_rt_kernels.n2m4_f32.tile.transpose import transpose_in
from sparse_rt_kernels.product.f32.call import Call
from sparse_rt_kernels.product.indirection import Indirection, lane_offsets
from sparse_rt_kernels.vectors.registers import LANES, REGISTER

__all__ = ["COPIES", "pixels_into_panel", "rows_into_panel"]

#: Rows of a copy plan: every lane of the widest panel on its own.
COPIES = MAX_VECTORS * LANES

_PAGE = 4096
# Input channels copied at once for all lanes: their pages and cache lines are still at hand for the next vector.
_CHANNEL_BLOCK = 32
# More pieces of straight memory than this in one vector: an instruction that gathers is quicker.
_MOST_PIECES = 5
# Steps between lanes that copies know.
_MOST_STEP = 2


@kernel_jit
def _zero_rows(panel: int, vectors: int, first: int, last: int) -> int:
    """Zero rows [first, last) of a panel."""
    for vector in range(first * vectors, last * vectors):
        zero_lanes(panel + vector * REGISTER)
    return 0


@kernel_jit
def rows_into_panel(call: Call, last_row: int, first_row: int, vectors: int, k0: int, length: int, panel: int) -> int:
    """``panel[k, p] = x[first_row + p, k0 + k]`` for k < length, zero from `last_row` on and beyond x.

    Returns 0 if all are finite.
    """
    stride = vectors * REGISTER
    present = max(0, min(length, call.columns - k0))
    ahead = 0
    if call.x_stride >= _PAGE:
        # The next block of k, or the next panel's first: the hardware's prefetchers know no row of another page.
        ahead = length * 4 if k0 + length < call.columns else vectors * LANES * call.x_stride - k0 * 4
    spoiled = 0
    for vector in range(vectors):
        row = first_row + vector * LANES
        source = call.x + row * call.x_stride + k0 * 4
        for k in range(0, present, LANES):
            # Rows of the panel beyond `length` may be written: there is room for 16 more.
            spoiled |= transpose_in(
                source + k * 4,
                call.x_stride,
                last_row - row,
                present - k,
                ahead,
                panel + vector * REGISTER + k * stride,
                stride,
            )
    _zero_rows(panel, vectors, -(-present // LANES) * LANES, length)
    return spoiled


@kernel_jit
def _plan_copies(offsets: NDArray[np.int32], vectors: int, step: int, copies: NDArray[np.int64]) -> int:
    """Split each vector's lanes into straight pieces: rows (vector, offset of lane 0, lanes, lanes kept) of `copies`.

    `offsets` is (16 * vectors,). A vector in too many pieces, or with a step that no copy knows, becomes one row with
    lanes = -1: gather. One that reads nothing becomes one of no lanes. Returns how many rows were written.
    """
    count = 0
    table = int(np.intp(offsets.ctypes.data))
    for vector in range(vectors):
        here = table + vector * REGISTER
        left = ~lanes_on_line(here, -1, 0) & 0xFFFF
        first, kept = count, 0
        while left != 0 and count - first < _MOST_PIECES and step <= _MOST_STEP:
            lane = first_lane(left)
            base = int(offsets[vector * LANES + lane]) - lane * step
            lanes = lanes_on_line(here, base, step) & left
            copies[count, 0], copies[count, 1], copies[count, 2], copies[count, 3] = vector, base, lanes, kept
            count += 1
            kept |= lanes
            left &= ~lanes
        if left != 0 or kept == 0:
            count = first + 1
            copies[first, 0], copies[first, 1], copies[first, 3] = vector, 0, 0
            copies[first, 2] = 0 if left == 0 else -1
    return count


@kernel_jit
def _copy_channels(
    source: int,
    source_stride: int,
    offsets: int,
    step: int,
    copy: NDArray[np.int64],
    out: int,
    out_stride: int,
    rows: int,
) -> int:
    """Carry out one row of the copy plan for `rows` input channels. Returns 0 if all are finite."""
    vector, base, lanes, kept = copy[0], copy[1], copy[2], copy[3]
    to = out + vector * REGISTER
    spoiled = 0
    if lanes < 0:
        for row in range(rows):
            spoiled |= gather_lanes(source + row * source_stride, offsets + vector * REGISTER, to + row * out_stride)
    elif step == 1:
        spoiled = copy_lanes(source + base * 4, source_stride, 1, lanes, kept, to, out_stride, rows)
    else:
        spoiled = copy_lanes(source + base * 4, source_stride, 2, lanes, kept, to, out_stride, rows)
    return spoiled


@kernel_jit
def _copy_rows(vectors: int, source: int, source_stride: int, copies: NDArray[np.int64], out: int, rows: int) -> int:
    """Carry out a copy plan of one piece a vector for `rows` input channels; see :func:`.tile.copy.copy_rows`."""
    plan = int(np.intp(copies.ctypes.data))
    if vectors == 6:
        return copy_rows(6, source, source_stride, plan, out, rows)
    if vectors == 5:
        return copy_rows(5, source, source_stride, plan, out, rows)
    if vectors == 4:
        return copy_rows(4, source, source_stride, plan, out, rows)
    if vectors == 3:
        return copy_rows(3, source, source_stride, plan, out, rows)
    if vectors == 2:
        return copy_rows(2, source, source_stride, plan, out, rows)
    return copy_rows(1, source, source_stride, plan, out, rows)


@kernel_jit
def _is_straight(copies: NDArray[np.int64], count: int, vectors: int, step: int) -> bool:
    """Return whether a copy plan has one piece of neighbouring items for each vector."""
    if step != 1 or count != vectors:
        return False
    gathered = 0
    for vector in range(vectors):
        gathered |= copies[vector, 2] < 0
    return gathered == 0


@kernel_jit
def pixels_into_panel(
    indirection: Indirection,
    image: int,
    vectors: int,
    k0: int,
    length: int,
    panel: int,
    lanes: NDArray[np.int32],
    copies: NDArray[np.int64],
) -> int:
    """``panel[k, p]`` = the element of the image at address `image` that lane p reads at reduction index k0 + k.

    `lanes` is (3, 16 * vectors): each lane's row and column of :func:`lane_origins`, and room for offsets. Returns 0 if
    all are finite.
    """
    row_bytes = vectors * REGISTER
    image_bytes = indirection.height * indirection.width * 4
    padded = -(-indirection.channels // 4) * 4
    end = min(k0 + length, padded * indirection.kernel_rows * indirection.kernel_columns)
    offsets = int(np.intp(lanes[2].ctypes.data))
    step = indirection.column_stride
    spoiled = 0
    k = k0
    while k < end:
        position = k // padded
        first = position * padded
        stop = min(end, first + padded)
        present = min(stop, first + indirection.channels)
        if lane_offsets(indirection, position, lanes[0], lanes[1], lanes[2]) == 0:
            present = k
        count = _plan_copies(lanes[2], vectors, step, copies)
        if k < present and _is_straight(copies, count, vectors, step):
            # All vectors of a channel at once: a channel's pixels lie side by side, in few pages and cache lines.
            source, to = image + (k - first) * image_bytes, panel + (k - k0) * row_bytes
            spoiled |= _copy_rows(vectors, source, image_bytes, copies, to, present - k)
            k = present
        while k < present:
            rows = min(present - k, _CHANNEL_BLOCK)
            source, to = image + (k - first) * image_bytes, panel + (k - k0) * row_bytes
            for copy in range(count):
                spoiled |= _copy_channels(source, image_bytes, offsets, step, copies[copy], to, row_bytes, rows)
            k += rows
        _zero_rows(panel, vectors, k - k0, stop - k0)
        k = stop
    _zero_rows(panel, vectors, k - k0, length)
    return spoiled
