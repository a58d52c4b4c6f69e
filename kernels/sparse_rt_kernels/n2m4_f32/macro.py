"""The SIMD macro-kernel: panels of lanes, blocks of k, tiles of channels; packing fused before, the epilogue after.

For one panel of up to 6 x 16 lanes and one block of k, the block of X is brought into a panel (k, lanes) that stays in
L1, and every tile of 4 output channels streams once over it. Between blocks of k the partial sums of all tiles lie
one after the other, in L2. A convolution's tiles end in the output; a matrix product's end there too, and are
transposed.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparse_rt_kernels.gather import Gather, lane_offsets, lane_origins
from sparse_rt_kernels.jit import kernel_jit
from sparse_rt_kernels.n2m4_f32 import micro
from sparse_rt_kernels.n2m4_f32.portable import multiply_tile
from sparse_rt_kernels.n2m4_f32.tiling import (
    CHANNELS,
    LANES,
    MAX_VECTORS,
    REDUCTION,
    Work,
    block_length,
    panel_bounds,
    panel_count,
)
from sparse_rt_kernels.workspace import as_matrix

__all__ = ["COPIES", "Call", "float_scratch", "pixels_into_panel", "run_panels"]

#: Rows of a copy plan: every lane of the widest panel on its own.
COPIES = MAX_VECTORS * LANES

_BYTES = LANES * 4
# Bytes of the weights of one tile and 8 reduction elements.
_WEIGHT_BYTES = 4 * CHANNELS * 4
_PAGE = 4096
# Channels of a row that are written one after the other.
_PIECE = 128
# Input channels copied at once for all lanes: their pages and cache lines are still at hand for the next vector.
_CHANNEL_BLOCK = 32
# More pieces of straight memory than this in one vector: an instruction that gathers is quicker.
_MOST_PIECES = 5
# Steps between lanes that copies know.
_MOST_STEP = 2


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
    first_lane, last_lane
        The lanes to compute, of each image.
    panel_bytes
        Of a block of packed lanes; see :attr:`.shares.Share.panel_bytes`.
    is_conv
        Whether lanes are pixels of an image, gathered, or rows of a matrix, transposed.
    residual
        Address of what is added before clipping, in the form of out, perhaps out itself; 0 for nothing.
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
    first_lane: int
    last_lane: int
    panel_bytes: int
    is_conv: int
    residual: int


class Block(NamedTuple):
    """One panel block: which image, lanes and octets (8 reduction elements) it holds; where the partial sums begin."""

    image: int
    first_lane: int
    vectors: int
    first_octet: int
    octets: int
    sums_at: int


class Ending(NamedTuple):
    """What becomes of the sums of a register tile, and where; see :func:`.micro.tile`."""

    bias: int
    low: np.float32
    high: np.float32
    residual: int
    out: int
    stride: int
    channels: int
    last_lanes: int


@kernel_jit
def register_tile(
    vectors: int, panel: int, values: int, index: int, octets: int, ahead: int, partial: int, ending: Ending
) -> int:
    """Run the register tile of `vectors` vectors; see :func:`.micro.tile`."""
    if vectors == 6:
        return micro.tile(6, panel, values, index, octets, ahead, partial, ending)
    if vectors == 5:
        return micro.tile(5, panel, values, index, octets, ahead, partial, ending)
    if vectors == 4:
        return micro.tile(4, panel, values, index, octets, ahead, partial, ending)
    if vectors == 3:
        return micro.tile(3, panel, values, index, octets, ahead, partial, ending)
    if vectors == 2:
        return micro.tile(2, panel, values, index, octets, ahead, partial, ending)
    return micro.tile(1, panel, values, index, octets, ahead, partial, ending)


@kernel_jit
def _zero_rows(panel: int, vectors: int, first: int, last: int) -> int:
    """Zero rows [first, last) of a panel."""
    for vector in range(first * vectors, last * vectors):
        micro.zero_lanes(panel + vector * _BYTES)
    return 0


@kernel_jit
def _rows_into_panel(call: Call, first_row: int, vectors: int, k0: int, length: int, panel: int) -> int:
    """``panel[k, p] = x[first_row + p, k0 + k]`` for k < length, zero beyond x. Returns 0 if all are finite."""
    stride = vectors * _BYTES
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
            spoiled |= micro.transpose_in(
                source + k * 4,
                call.x_stride,
                call.last_lane - row,
                present - k,
                ahead,
                panel + vector * _BYTES + k * stride,
                stride,
            )
    _zero_rows(panel, vectors, -(-present // LANES) * LANES, length)
    return spoiled


@kernel_jit
def _plan_copies(offsets: NDArray[np.int32], vectors: int, step: int, copies: NDArray[np.int64]) -> int:
    """Split each vector's lanes into straight pieces: rows (vector, offset of lane 0, lanes, lanes kept) of `copies`.

    `offsets` is (16 * vectors,). A vector in too many pieces, or with a step that no copy knows, becomes one row with
    lanes = kept = 0: gather. Returns how many rows were written.
    """
    count = 0
    for vector in range(vectors):
        here = int(np.intp(offsets.ctypes.data)) + vector * _BYTES
        left = ~micro.lanes_on_line(here, -1, 0) & 0xFFFF
        first, kept = count, 0
        while left != 0 and count - first < _MOST_PIECES and step <= _MOST_STEP:
            lane = 0
            while (left >> lane) & 1 == 0:
                lane += 1
            base = int(offsets[vector * LANES + lane]) - lane * step
            lanes = micro.lanes_on_line(here, base, step) & left
            copies[count, 0], copies[count, 1], copies[count, 2], copies[count, 3] = vector, base, lanes, kept
            count += 1
            kept |= lanes
            left &= ~lanes
        if left != 0 or kept == 0:
            count = first + 1
            copies[first, 0], copies[first, 1], copies[first, 2], copies[first, 3] = vector, 0, 0, 0
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
    to = out + vector * _BYTES
    spoiled = 0
    if lanes == 0:
        for row in range(rows):
            spoiled |= micro.gather_lanes(
                source + row * source_stride, offsets + vector * _BYTES, to + row * out_stride
            )
    elif step == 1:
        spoiled = micro.copy_lanes(source + base * 4, source_stride, 1, lanes, kept, to, out_stride, rows)
    else:
        spoiled = micro.copy_lanes(source + base * 4, source_stride, 2, lanes, kept, to, out_stride, rows)
    return spoiled


@kernel_jit
def pixels_into_panel(
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

    `lanes` is (3, 16 * vectors): each lane's row and column of :func:`lane_origins`, and room for offsets. Returns 0 if
    all are finite.
    """
    row_bytes = vectors * _BYTES
    image_bytes = gather.height * gather.width * 4
    padded = -(-gather.channels // 4) * 4
    end = min(k0 + length, padded * gather.kernel_rows * gather.kernel_columns)
    offsets = int(np.intp(lanes[2].ctypes.data))
    step = gather.column_stride
    spoiled = 0
    k = k0
    while k < end:
        position = k // padded
        first = position * padded
        stop = min(end, first + padded)
        present = min(stop, first + gather.channels)
        if lane_offsets(gather, position, lanes[0], lanes[1], lanes[2]) == 0:
            present = k
        count = _plan_copies(lanes[2], vectors, step, copies)
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


@kernel_jit
def _sums_to_rows(call: Call, block: Block, work: Work, clip: tuple[np.float32, np.float32], sums: int) -> int:
    """Transpose the finished channels of this share, (channels, lanes) at address `sums`, into the output's rows.

    A residual is added, and the sum clipped, on the way.

    8 rows at a time, 128 channels each: rows that are a multiple of 4096 bytes apart lie in the same few lines of L1,
    and with 16 of them, or shorter pieces, a line takes 8 to 25 cycles instead of 3.
    """
    stride = block.vectors * _BYTES
    first = work.first_tile * CHANNELS
    last = min(call.n, work.last_tile * CHANNELS)
    rows = min(block.vectors * LANES, call.last_lane - block.first_lane)
    for begin in range(first, last, _PIECE):
        end = min(last, begin + _PIECE)
        for row in range(0, rows, micro.HALF):
            at = (block.first_lane + row) * call.out_stride
            for channel in range(begin, end, LANES):
                micro.transpose_half_out(
                    sums + (channel - first) * stride + row * 4,
                    stride,
                    call.residual + at + channel * 4 if call.residual != 0 else 0,
                    clip[0],
                    clip[1],
                    call.out + at + channel * 4,
                    call.out_stride,
                    min(micro.HALF, rows - row),
                    min(LANES, end - channel),
                )
    return 0


@kernel_jit
def _skip_zeros(
    block: Block,
    tile: int,
    values: NDArray[np.float32],
    index: NDArray[np.uint8],
    floats: NDArray[np.float32],
    sums_at: int,
) -> int:
    """Add a panel that holds inf or NaN to the partial sums of one tile, by the loops that skip stored zeros."""
    width, stop = block.vectors * LANES, block.first_octet + block.octets
    rows = as_matrix(floats, block.octets * REDUCTION, width)
    sums = as_matrix(floats[sums_at:], CHANNELS, width)
    if block.first_octet == 0:
        sums[:] = 0
    return multiply_tile(rows, values[tile, block.first_octet : stop], index[tile, block.first_octet : stop], sums)


@kernel_jit
def _ending(
    call: Call, block: Block, tile: int, clip: tuple[np.float32, np.float32], is_last: bool, sums: int
) -> Ending:
    """Return what becomes of the sums of one tile of channels that has met a panel block.

    Sums of a matrix product that a residual is added to are clipped later, while they are transposed.
    """
    stride, channel = block.vectors * _BYTES, tile * CHANNELS
    low, high = np.float32(-np.inf), np.float32(np.inf)
    if not is_last:
        return Ending(0, low, high, 0, sums, stride, CHANNELS, LANES)
    bias, channels = call.bias + channel * 4, min(CHANNELS, call.n - channel)
    if call.is_conv or call.residual == 0:
        low, high = clip
    if not call.is_conv:
        return Ending(bias, low, high, 0, sums, stride, channels, LANES)
    at = ((block.image * call.n + channel) * call.lanes + block.first_lane) * 4
    residual = call.residual + at if call.residual != 0 else 0
    last_lanes = min(LANES, call.last_lane - block.first_lane - (block.vectors - 1) * LANES)
    return Ending(bias, low, high, residual, call.out + at, call.lanes * 4, channels, last_lanes)


@kernel_jit
def _multiply_tiles(
    call: Call,
    block: Block,
    work: Work,
    values: NDArray[np.float32],
    index: NDArray[np.uint8],
    clip: tuple[np.float32, np.float32],
    floats: NDArray[np.float32],
    spoiled: int,
) -> int:
    """Run every tile of channels of this share over one panel block; after the last block, finish them."""
    width = block.vectors * LANES
    is_last = block.first_octet + block.octets == call.octets
    panel = int(np.intp(floats.ctypes.data))
    held = panel + block.sums_at * 4
    weights = int(np.intp(values.ctypes.data)) + (work.first_tile * call.octets + block.first_octet) * _WEIGHT_BYTES
    positions = int(np.intp(index.ctypes.data)) + (work.first_tile * call.octets + block.first_octet) * CHANNELS
    octets = block.octets
    tile_bytes = CHANNELS * width * 4
    for tile in range(work.first_tile, work.last_tile):
        number = tile - work.first_tile
        sums = held + number * tile_bytes
        if spoiled:
            # The register tile multiplies stored zeros too, and 0 * inf is NaN.
            _skip_zeros(block, tile, values, index, floats, block.sums_at + number * CHANNELS * width)
            octets = 0
        partial = sums if block.first_octet > 0 or spoiled else 0
        ending = _ending(call, block, tile, clip, is_last, sums)
        register_tile(block.vectors, panel, weights, positions, octets, call.octets * _WEIGHT_BYTES, partial, ending)
        weights += call.octets * _WEIGHT_BYTES
        positions += call.octets * CHANNELS
    if is_last and not call.is_conv:
        _sums_to_rows(call, block, work, clip, held)
    return 0


@kernel_jit
def run_panels(
    call: Call,
    work: Work,
    gather: Gather,
    clip: tuple[np.float32, np.float32],
    values: NDArray[np.float32],
    index: NDArray[np.uint8],
    floats: NDArray[np.float32],
    copies: NDArray[np.int64],
    lane_table: NDArray[np.int32],
) -> int:
    """Compute one thread's share of ``out = clip(X W^T + bias + residual)``; return 0.

    Parameters
    ----------
    call, work, gather
        What to compute; the gather matters to no matmul.
    clip
        Bounds, float32.
    values, index
        Of :func:`.weight.pack`.
    floats
        Scratch of :func:`float_scratch` items, 64-byte aligned: the panel block, the partial sums.
    copies, lane_table
        Scratch of (:data:`COPIES`, 4) and (3 * 16 * 6,).
    """
    rows = call.last_lane - call.first_lane
    panels = panel_count(rows, MAX_VECTORS)
    panel = int(np.intp(floats.ctypes.data))
    for job in range(work.first_panel, work.last_panel):
        image = job // panels
        first, vectors = panel_bounds(rows, MAX_VECTORS, job - image * panels)
        lane = call.first_lane + first
        width = vectors * LANES
        length = block_length(call.octets * REDUCTION, vectors, call.panel_bytes)
        sums_at = (length + LANES) * width
        source = call.x + image * gather.channels * gather.height * gather.width * 4
        table = as_matrix(lane_table, 3, width)
        if call.is_conv:
            lane_origins(gather, lane, table[0], table[1])
        for octet in range(0, call.octets, length // REDUCTION):
            octets = min(call.octets - octet, length // REDUCTION)
            block = Block(image, lane, vectors, octet, octets, sums_at)
            k0, k = octet * REDUCTION, octets * REDUCTION
            if call.is_conv:
                spoiled = pixels_into_panel(gather, source, vectors, k0, k, panel, table, copies)
            else:
                spoiled = _rows_into_panel(call, lane, vectors, k0, k, panel)
            _multiply_tiles(call, block, work, values, index, clip, floats, spoiled)
    return 0


def float_scratch(call: Call, tiles: int) -> int:
    """Return the float32 items of scratch that a share of `tiles` channel tiles needs."""
    widest = min(MAX_VECTORS, -(-(call.last_lane - call.first_lane) // LANES))
    k = call.octets * REDUCTION
    # Panels of one call differ by one vector, and the narrower have longer blocks.
    panel = max(
        (block_length(k, vectors, call.panel_bytes) + LANES) * vectors * LANES
        for vectors in range(max(1, widest // 2), widest + 1)
    )
    # Channels are transposed by 16.
    return panel + -(-tiles * CHANNELS // LANES) * LANES * widest * LANES
