"""The SIMD macro-kernel: panels of lanes, blocks of k, tiles of channels; packing fused before, the epilogue after.

For one panel of up to 7 x 16 lanes and one block of k, the block of X is brought into a panel (k, lanes) that stays in
L2, and every tile of 4 output channels streams once over it. Only if k takes more than one block do partial sums leave
the registers.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparse_rt_kernels.jit import kernel_jit
from sparse_rt_kernels.n2m4_f32 import micro
from sparse_rt_kernels.n2m4_f32.gather import Gather, lane_offsets, lane_origins
from sparse_rt_kernels.n2m4_f32.portable import multiply_tile
from sparse_rt_kernels.n2m4_f32.tiling import (
    CHANNELS,
    LANES,
    MAX_VECTORS,
    REDUCTION,
    block_length,
    panel_bounds,
    panel_count,
)

__all__ = ["Call", "Work", "run_panels"]

_BYTES = LANES * 4
# Channels whose finished tiles are gathered before they are transposed into a row-major output.
_STRIP = LANES // CHANNELS
# Input channels copied at once for all lanes: their pages and cache lines are still at hand for the next vector.
_CHANNEL_BLOCK = 16
# More pieces of straight memory than this in one vector: an instruction that gathers is quicker.
_MOST_PIECES = 5


class Call(NamedTuple):
    """One matmul or conv, as Numba takes it. Addresses and strides are in bytes.

    Attributes
    ----------
    x, x_stride, columns
        Address of x; for matmul the bytes from row to row, and how many columns x has.
    out, out_stride
        Address of out; for matmul the bytes from row to row.
    bias
        Address of (n,) float32.
    n, octets
        Output channels; reduction elements / 8, rounded up.
    images, lanes
        How many matrices of how many lanes: 1 and m, or batch and output pixels.
    is_conv
        Whether lanes are pixels of an image, gathered, or rows of a matrix, transposed.
    """

    x: int
    x_stride: int
    columns: int
    out: int
    out_stride: int
    bias: int
    n: int
    octets: int
    images: int
    lanes: int
    is_conv: int


class Work(NamedTuple):
    """One thread's share of a call: panels (over all images) and channel tiles, both half-open ranges."""

    first_panel: int
    last_panel: int
    first_tile: int
    last_tile: int


@kernel_jit
def _multiply(
    vectors: int,
    panel: int,
    values: int,
    index: int,
    octets: int,
    partial: int,
    bias: int,
    low: np.float32,
    high: np.float32,
    out: int,
    stride: int,
    channels: int,
    last_lanes: int,
) -> int:
    """Run the register tile of `vectors` vectors; see :func:`.micro.tile`."""
    if vectors == 7:
        return micro.tile(7, panel, values, index, octets, partial, bias, low, high, out, stride, channels, last_lanes)
    if vectors == 6:
        return micro.tile(6, panel, values, index, octets, partial, bias, low, high, out, stride, channels, last_lanes)
    if vectors == 5:
        return micro.tile(5, panel, values, index, octets, partial, bias, low, high, out, stride, channels, last_lanes)
    if vectors == 4:
        return micro.tile(4, panel, values, index, octets, partial, bias, low, high, out, stride, channels, last_lanes)
    if vectors == 3:
        return micro.tile(3, panel, values, index, octets, partial, bias, low, high, out, stride, channels, last_lanes)
    if vectors == 2:
        return micro.tile(2, panel, values, index, octets, partial, bias, low, high, out, stride, channels, last_lanes)
    return micro.tile(1, panel, values, index, octets, partial, bias, low, high, out, stride, channels, last_lanes)


@kernel_jit
def _rows_into_panel(call: Call, first_row: int, vectors: int, k0: int, length: int, panel: int) -> int:
    """``panel[k, p] = x[first_row + p, k0 + k]`` for k < length, zero beyond x."""
    stride = vectors * _BYTES
    present = max(0, min(length, call.columns - k0))
    for vector in range(vectors):
        row = first_row + vector * LANES
        source = call.x + row * call.x_stride + k0 * 4
        for k in range(0, present, LANES):
            # A panel row beyond `length` may be written: the block has room for 8 more.
            micro.transpose_in(
                source + k * 4,
                call.x_stride,
                call.lanes - row,
                present - k,
                panel + vector * _BYTES + k * stride,
                stride,
            )
    for k in range(-(-present // LANES) * LANES, length):
        for vector in range(vectors):
            micro.copy_lanes(panel, 0, 0, panel + k * stride + vector * _BYTES)
    return 0


@kernel_jit
def _plan_copies(offsets: NDArray[np.int32], vectors: int, step: int, copies: NDArray[np.int64]) -> int:
    """Split each vector's lanes into straight pieces: rows (vector, offset of lane 0, lanes, lanes kept) of `copies`.

    `offsets` is (16 * vectors,). A vector in too many pieces becomes one row with lanes = 0: gather.
    Returns how many rows were written.
    """
    count = 0
    for vector in range(vectors):
        here = int(np.intp(offsets.ctypes.data)) + vector * _BYTES
        padding = micro.lanes_on_line(here, -1, 0)
        left = ~padding & 0xFFFF
        first, kept = count, 0
        while left != 0 and count - first < _MOST_PIECES:
            lane = 0
            while (left >> lane) & 1 == 0:
                lane += 1
            base = int(offsets[vector * LANES + lane]) - lane * step
            lanes = micro.lanes_on_line(here, base, step) & left
            copies[count, 0], copies[count, 1], copies[count, 2], copies[count, 3] = vector, base, lanes, kept
            count += 1
            kept |= lanes
            left &= ~lanes
        if left != 0 or (step != 1 and count != first):
            count = first
            copies[count, 0], copies[count, 1], copies[count, 2], copies[count, 3] = vector, 0, 0, 0
            count += 1
        elif kept == 0:
            # All padding: a copy of no lanes that writes zeros.
            copies[count, 0], copies[count, 1], copies[count, 2], copies[count, 3] = vector, 0, 0, 1
            count += 1
    return count


@kernel_jit
def _pixels_into_panel(
    call: Call,
    gather: Gather,
    image: int,
    vectors: int,
    k0: int,
    length: int,
    panel: int,
    lanes: NDArray[np.int32],
    copies: NDArray[np.int64],
) -> int:
    """``panel[k, p]`` = the element of the image at address `image` that lane p reads at reduction index k0 + k.

    `lanes` is (3, 16 * vectors): each lane's row and column of :func:`lane_origins`, and room for offsets.
    """
    row_bytes = vectors * _BYTES
    image_bytes = gather.height * gather.width * 4
    padded = -(-gather.channels // 4) * 4
    end = min(k0 + length, padded * gather.kernel_rows * gather.kernel_columns)
    offsets = int(np.intp(lanes[2].ctypes.data))
    k = k0
    while k < end:
        position = k // padded
        stop = min(end, (position + 1) * padded)
        present = min(stop, position * padded + gather.channels)
        lane_offsets(gather, position, lanes[0], lanes[1], lanes[2])
        count = _plan_copies(lanes[2], vectors, gather.column_stride, copies)
        while k < present:
            last = min(present, k + _CHANNEL_BLOCK)
            source = image + (k - position * padded) * image_bytes
            target = panel + (k - k0) * row_bytes
            for copy in range(count):
                vector, base, mask, kept = copies[copy, 0], copies[copy, 1], copies[copy, 2], copies[copy, 3]
                to = target + vector * _BYTES
                if mask == 0 and kept == 0:
                    for channel in range(last - k):
                        micro.gather_lanes(
                            source + channel * image_bytes, offsets + vector * _BYTES, to + channel * row_bytes
                        )
                    continue
                if mask == 0:
                    kept = 0
                for channel in range(last - k):
                    micro.copy_lanes(source + channel * image_bytes + base * 4, mask, kept, to + channel * row_bytes)
            k = last
        for row in range(max(k, present), stop):
            for vector in range(vectors):
                micro.copy_lanes(panel, 0, 0, panel + (row - k0) * row_bytes + vector * _BYTES)
        k = stop
    for row in range(max(0, end - k0), length):
        for vector in range(vectors):
            micro.copy_lanes(panel, 0, 0, panel + row * row_bytes + vector * _BYTES)
    return 0


@kernel_jit
def run_panels(
    call: Call,
    gather: Gather,
    values: NDArray[np.float32],
    index: NDArray[np.uint8],
    low: np.float32,
    high: np.float32,
    work: Work,
    floats: NDArray[np.float32],
    copies: NDArray[np.int64],
    lane_table: NDArray[np.int32],
) -> int:
    """Compute one thread's share of ``out = clip(X W^T + bias)``.

    Parameters
    ----------
    call, gather, work
        What to compute; `gather` matters to convolutions alone.
    values, index
        Of :func:`.weight.pack`.
    low, high
        Clip bounds.
    floats
        64-byte aligned scratch: 16 * 112 of a strip of finished channels, the panel block and 8 rows more, then the
        partial sums (channels of this share, 112).
    copies, lane_table
        Scratch of (7 * 16, 4) and (3 * 112,).
    """
    panels = panel_count(call.lanes, MAX_VECTORS)
    strip = int(np.intp(floats.ctypes.data))
    for job in range(work.first_panel, work.last_panel):
        image = job // panels
        first, vectors = panel_bounds(call.lanes, MAX_VECTORS, job - image * panels)
        width = vectors * LANES
        row_bytes = width * 4
        last_lanes = min(LANES, call.lanes - first - (vectors - 1) * LANES)
        block = block_length(call.octets * REDUCTION, vectors)
        panel_at = LANES * MAX_VECTORS * LANES
        partial_at = panel_at + (block + LANES) * width
        panel = strip + panel_at * 4
        lanes = lane_table[: 3 * width].reshape(3, width)
        if call.is_conv:
            lane_origins(gather, first, lanes[0], lanes[1])
        for octet in range(0, call.octets, block // REDUCTION):
            count = min(call.octets - octet, block // REDUCTION)
            k0, length = octet * REDUCTION, count * REDUCTION
            if call.is_conv:
                source = call.x + image * gather.channels * gather.height * gather.width * 4
                _pixels_into_panel(call, gather, source, vectors, k0, length, panel, lanes, copies)
            else:
                _rows_into_panel(call, first, vectors, k0, length, panel)
            finite = micro.all_finite(panel, length * vectors)
            is_last = octet + count == call.octets
            for tile in range(work.first_tile, work.last_tile):
                number = tile - work.first_tile
                held = strip + (partial_at + number * CHANNELS * width) * 4
                resumed = held if octet > 0 else 0
                weights = int(np.intp(values[tile, octet].ctypes.data))
                positions = int(np.intp(index[tile, octet].ctypes.data))
                todo = count
                if not finite:
                    # The register tile multiplies stored zeros too, and 0 * inf is NaN: take the loops that skip them.
                    at = partial_at + number * CHANNELS * width
                    sums = floats[at : at + CHANNELS * width].reshape(CHANNELS, width)
                    if octet == 0:
                        sums[:] = 0
                    rows = floats[panel_at : panel_at + length * width].reshape(length, width)
                    multiply_tile(rows, values[tile, octet : octet + count], index[tile, octet : octet + count], sums)
                    resumed, todo = held, 0
                if not is_last:
                    _multiply(
                        vectors,
                        panel,
                        weights,
                        positions,
                        todo,
                        resumed,
                        0,
                        np.float32(-np.inf),
                        np.float32(np.inf),
                        held,
                        row_bytes,
                        CHANNELS,
                        LANES,
                    )
                    continue
                channel = tile * CHANNELS
                channels = min(CHANNELS, call.n - channel)
                bias = call.bias + channel * 4
                if call.is_conv:
                    out = call.out + ((image * call.n + channel) * call.lanes + first) * 4
                    stride, stored = call.lanes * 4, last_lanes
                else:
                    out = strip + (number % _STRIP) * CHANNELS * row_bytes
                    stride, stored = row_bytes, LANES
                _multiply(
                    vectors, panel, weights, positions, todo, resumed, bias, low, high, out, stride, channels, stored
                )
                if not call.is_conv and (number % _STRIP == _STRIP - 1 or tile == work.last_tile - 1):
                    _strip_to_rows(call, first, vectors, tile - number % _STRIP, channel + channels, strip)
    return 0


@kernel_jit
def _strip_to_rows(call: Call, first: int, vectors: int, first_tile: int, last_channel: int, strip: int) -> int:
    """Transpose up to 16 finished channels into the rows of the output."""
    first_channel = first_tile * CHANNELS
    for vector in range(vectors):
        row = first + vector * LANES
        micro.transpose_out(
            strip + vector * _BYTES,
            vectors * _BYTES,
            call.out + row * call.out_stride + first_channel * 4,
            call.out_stride,
            min(LANES, call.lanes - row),
            last_channel - first_channel,
        )
    return 0
