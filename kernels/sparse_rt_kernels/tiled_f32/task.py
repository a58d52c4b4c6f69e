"""The macro-kernel of the float32 tiles of any vector width: panels of lanes, blocks of k, tiles of channels."""

import functools
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparse_rt_kernels.jit.compilation import TaskFunction, kernel_jit
from sparse_rt_kernels.jit.compiler import carray
from sparse_rt_kernels.product.f32.weight import REDUCTION
from sparse_rt_kernels.product.indirection import Indirection, lane_offsets, lane_origins
from sparse_rt_kernels.threads.workspace import as_matrix, as_pointer
from sparse_rt_kernels.tiled_f32.blocking import Shape
from sparse_rt_kernels.tiled_f32.tile import copy, finish, multiply, transpose
from sparse_rt_kernels.tiled_f32.weight import STRATEGIES, number_of

__all__ = ["CALL", "SHARE", "Share", "product_task", "task_bytes"]


class Call(NamedTuple):
    """One matmul or conv. Addresses and strides are in bytes.

    Attributes
    ----------
    x, x_stride, columns
        Address of x; for matmul the bytes from row to row, and how many columns x has.
    out, out_stride
        Address of out; for matmul the bytes from row to row.
    bias
        Address of (n,) float32.
    n
        Output channels.
    rows
        Activation rows: m, or output pixels of one image.
    is_conv
        Whether rows are pixels of images, gathered, or rows of a matrix, transposed.
    block_octets
        Reduction elements / 8 of a block.
    low, high
        Clip bounds.
    """

    x: int
    x_stride: int
    columns: int
    out: int
    out_stride: int
    bias: int
    n: int
    rows: int
    is_conv: int
    block_octets: int
    low: float
    high: float


class Share(NamedTuple):
    """One task: panels (counted over all images) and tiles of channels, both half-open ranges."""

    first_panel: int
    last_panel: int
    first_tile: int
    last_tile: int


#: A :class:`Share`.
SHARE = np.dtype([(name, "i8") for name in Share._fields])
_SHARE_BYTES = SHARE.itemsize
#: A call. `shares` is the address of one :data:`SHARE` for each task; the weight has `tiles` tiles of channels and
#: `octets` steps of 8 elements; the others are fields of :class:`Call` and :class:`Indirection`.
CALL = np.dtype(
    [
        *((name, "i8") for name in ("shares", "values", "index", "tiles", "octets")),
        *((name, "i8") for name in ("x_stride", "columns", "out_stride", "bias", "n", "rows", "is_conv")),
        *((name, "i8") for name in ("block_octets",)),
        ("low", "f8"),
        ("high", "f8"),
        *((name, "i8") for name in Indirection._fields),
    ]
)


def task_bytes(shape: Shape, block_octets: int, tiles: int) -> int:
    """Return the scratch bytes of a task with up to `tiles` tiles of channels: lanes, a panel block, sums."""
    kept = -(-tiles * shape.channels // shape.lanes) * shape.lanes
    return (3 + block_octets * REDUCTION + shape.lanes + kept) * shape.lanes * shape.vectors * 4


@kernel_jit
def _call(a: Any, x: int, out: int) -> Call:
    places = (x, a.x_stride, a.columns, out, a.out_stride, a.bias)
    return Call(*places, a.n, a.rows, a.is_conv, a.block_octets, a.low, a.high)


@kernel_jit
def _indirection(a: Any) -> Indirection:
    return Indirection(
        a.channels,
        a.height,
        a.width,
        a.kernel_rows,
        a.kernel_columns,
        a.row_stride,
        a.column_stride,
        a.row_dilation,
        a.column_dilation,
        a.top,
        a.left,
        a.row_stuffing,
        a.column_stuffing,
        a.out_pixels,
        a.out_width,
    )


@kernel_jit
def _is_straight(offsets: NDArray[np.int32], first: int, lanes: int) -> bool:
    """Return whether lanes [first, first + lanes) read neighbours."""
    start = offsets[first]
    straight = start >= 0
    for lane in range(lanes):
        straight &= offsets[first + lane] == start + lane
    return bool(straight)


# --- into and out of the panel: each for both vector widths, which one is known when it runs --------------------------


@kernel_jit
def _rows_into_panel(lanes: int, call: Call, first_row: int, vectors: int, k0: int, length: int, panel: int) -> int:
    """``panel[k, p] = x[first_row + p, k0 + k]`` for k < length, zero beyond x. Returns 0 if all are finite.

    There is room for `lanes` rows more than `length`.
    """
    present = max(0, min(length, call.columns - k0))
    row_bytes, spoiled = vectors * lanes * 4, 0
    for vector in range(vectors):
        row = first_row + vector * lanes
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
def _pixels_into_panel(
    lanes: int, indirection: Indirection, image: int, k0: int, length: int, panel: int, table: NDArray[np.int32]
) -> int:
    """``panel[k, p]`` = the element of the image at address `image` that lane p reads at reduction index k0 + k.

    `table` is (3, width): each lane's row and column of :func:`lane_origins`, and room for offsets. Returns 0 if all
    are finite.
    """
    row_bytes, plane = table.shape[1] * 4, indirection.height * indirection.width * 4
    padded = (indirection.channels + 3) // 4 * 4
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


@kernel_jit
def _finish_strip(
    lanes: int, call: Call, image: int, first_row: int, vectors: int, channel: int, channels: int, sums: int
) -> int:
    """Store up to `lanes` channels from `channel` on, whose sums are (channels, vectors * lanes)."""
    low, high = np.float32(call.low), np.float32(call.high)
    row_bytes, bias = vectors * lanes * 4, call.bias + channel * 4
    for vector in range(vectors):
        row = first_row + vector * lanes
        left, source = min(lanes, call.rows - row), sums + vector * lanes * 4
        if call.is_conv:
            target = call.out + ((image * call.n + channel) * call.rows + row) * 4
            for c in range(channels):
                at, to = source + c * row_bytes, target + c * call.rows * 4
                if lanes == 16:
                    finish.finish_plane(16, at, bias + c * 4, low, high, to, left)
                else:
                    finish.finish_plane(8, at, bias + c * 4, low, high, to, left)
        else:
            target, stride = call.out + row * call.out_stride + channel * 4, call.out_stride
            if lanes == 16:
                finish.finish_rows(16, source, row_bytes, bias, low, high, target, stride, left, channels)
            else:
                finish.finish_rows(8, source, row_bytes, bias, low, high, target, stride, left, channels)
    return 0


# --- the product -----------------------------------------------------------------------------------------------------


@functools.cache
def product_task(shape: Shape, format: str) -> TaskFunction:
    """Return the task that computes one share of a call, compiled for `shape` and weights of `format`.

    See :data:`CALL`.

    Its scratch holds each lane's row and column and room for offsets, a panel block of (8 * block_octets + lanes) rows,
    and the sums of the share's channels, rounded up to `lanes`; all of them ``vectors * lanes`` wide.
    """
    # Compiled code is found again by what the function captures: by ints, and by names of compiled functions.
    lanes, most, channels = shape
    strip, most_lanes = lanes // channels, lanes * most
    strategy = number_of(format)
    weight = STRATEGIES[strategy]
    octet_bytes, index_bytes = 4 * weight.slots * channels, weight.index_bytes * channels
    skips, add_skipping = int(weight.add_skipping is not None), weight.add_skipping

    def task(task: int, arguments: Any, x: int, other: int, out: int, shared: int, scratch: int) -> int:
        """Compute the panels and tiles of channels of one share."""
        a = carray(arguments, (1,), CALL)[0]
        share = carray(as_pointer(a.shares + task * _SHARE_BYTES), (1,), SHARE)[0]
        call, indirection = _call(a, x, out), _indirection(a)
        all_vectors, octets = (call.rows + lanes - 1) // lanes, a.octets
        panels = (all_vectors + most - 1) // most
        lane_table = carray(as_pointer(scratch), (3, most_lanes), np.int32)
        panel = scratch + 12 * most_lanes
        sums_at = (call.block_octets * REDUCTION + lanes) * most_lanes
        kept = ((share.last_tile - share.first_tile) * channels + lanes - 1) // lanes * lanes
        floats = carray(as_pointer(panel), (sums_at + kept * most_lanes,), np.float32)
        for job in range(share.first_panel, share.last_panel):
            image, number = job // panels, job % panels
            # Widths of panels differ by at most one register.
            first = number * all_vectors // panels
            vectors = (number + 1) * all_vectors // panels - first
            row, width = first * lanes, vectors * lanes
            source = call.x + image * indirection.channels * indirection.height * indirection.width * 4
            table = lane_table[:, :width]
            if call.is_conv:
                lane_origins(indirection, row, table[0], table[1])
            for octet in range(0, octets, call.block_octets):
                stop = min(octets, octet + call.block_octets)
                count, k0, length = stop - octet, octet * REDUCTION, (stop - octet) * REDUCTION
                if call.is_conv:
                    spoiled = _pixels_into_panel(lanes, indirection, source, k0, length, panel, table)
                else:
                    spoiled = _rows_into_panel(lanes, call, row, vectors, k0, length, panel)
                for tile in range(share.first_tile, share.last_tile):
                    own = tile - share.first_tile
                    held = floats[sums_at + own * channels * width :][: channels * width]
                    sums = int(np.intp(held.ctypes.data))
                    value = a.values + (tile * octets + octet) * octet_bytes
                    index = a.index + (tile * octets + octet) * index_bytes
                    if skips and spoiled:
                        # The tile multiplies stored zeros too, and 0 * inf is NaN: take the loops that skip them.
                        if octet == 0:
                            held[:] = 0
                        add_skipping(as_matrix(floats, length, width), value, index, as_matrix(held, channels, width))
                    elif vectors == 6:
                        multiply.tile(lanes, 6, channels, strategy, panel, value, index, count, sums, octet)
                    elif vectors == 5:
                        multiply.tile(lanes, 5, channels, strategy, panel, value, index, count, sums, octet)
                    elif vectors == 4:
                        multiply.tile(lanes, 4, channels, strategy, panel, value, index, count, sums, octet)
                    elif vectors == 3:
                        multiply.tile(lanes, 3, channels, strategy, panel, value, index, count, sums, octet)
                    elif vectors == 2:
                        multiply.tile(lanes, 2, channels, strategy, panel, value, index, count, sums, octet)
                    else:
                        multiply.tile(lanes, 1, channels, strategy, panel, value, index, count, sums, octet)
                    if stop == octets and (own % strip == strip - 1 or tile == share.last_tile - 1):
                        channel = (tile - own % strip) * channels
                        present = min(call.n - channel, (own % strip + 1) * channels)
                        finished = panel + (sums_at + own // strip * lanes * width) * 4
                        _finish_strip(lanes, call, image, row, vectors, channel, present, finished)
        return 0

    return task
