"""The SIMD macro-kernel: panels of lanes, blocks of k, tiles of channels; packing fused before, the epilogue after.

For one panel of up to 6 x 16 lanes and one block of k, the block of X is brought into a panel (k, lanes) that stays in
L1, and every tile of 4 output channels streams once over it. Between blocks of k the partial sums of all tiles lie
one after the other, in L2. A convolution's tiles end in the output; a matrix product's end there too, and are
transposed.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparse_rt_kernels.jit.compilation import kernel_arithmetic, kernel_jit
from sparse_rt_kernels.n2m4_f32.blocking import (
    CHANNELS,
    FEWEST_BESIDE,
    MAX_VECTORS,
    MOST_BESIDE,
    MOST_REST,
    REDUCTION,
    Work,
    block_length,
    panel_bounds,
    panel_count,
)
from sparse_rt_kernels.n2m4_f32.portable import multiply_tile
from sparse_rt_kernels.n2m4_f32.task.call import Call
from sparse_rt_kernels.n2m4_f32.task.panels import pixels_into_panel, rows_into_panel
from sparse_rt_kernels.n2m4_f32.tile import channel_lanes, copy, row_lanes, transpose
from sparse_rt_kernels.product.indirection import Indirection, lane_origins
from sparse_rt_kernels.threads.workspace import as_matrix
from sparse_rt_kernels.vectors.registers import LANES, REGISTER

__all__ = ["float_scratch", "run_panels"]

#: Rows of a copy plan: every lane of the widest panel on its own.
COPIES = MAX_VECTORS * LANES

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


class Block(NamedTuple):
    """One panel block: which image, lanes and octets (8 reduction elements) it holds; where the partial sums begin.

    Beside it 1 or 4 rows are computed, or none (`rest`); `rest_at` is where their part of the scratch begins, and
    `length` how many elements the longest block has.
    """

    image: int
    first_lane: int
    vectors: int
    first_octet: int
    octets: int
    sums_at: int
    rest: int
    rest_at: int
    length: int


class Ending(NamedTuple):
    """What becomes of the sums of a register tile, and where; see :func:`.tile.row_lanes.tile`."""

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
    """Run the register tile of `vectors` vectors; see :func:`.tile.row_lanes.tile`."""
    if vectors == 6:
        return row_lanes.tile(6, panel, values, index, octets, ahead, partial, ending)
    if vectors == 5:
        return row_lanes.tile(5, panel, values, index, octets, ahead, partial, ending)
    if vectors == 4:
        return row_lanes.tile(4, panel, values, index, octets, ahead, partial, ending)
    if vectors == 3:
        return row_lanes.tile(3, panel, values, index, octets, ahead, partial, ending)
    if vectors == 2:
        return row_lanes.tile(2, panel, values, index, octets, ahead, partial, ending)
    return row_lanes.tile(1, panel, values, index, octets, ahead, partial, ending)


@kernel_jit
def register_tile_and_rest(
    vectors: int,
    rest: int,
    panel: int,
    values: int,
    index: int,
    octets: int,
    ahead: int,
    partial: int,
    ending: Ending,
    x: int,
    sums: int,
) -> int:
    """Run the register tile of 3 or 4 vectors and up to 4 rows beside; see :func:`.tile.row_lanes.tile_and_rest`."""
    if vectors == 3 and rest == 1:
        return row_lanes.tile_and_rest(3, 1, panel, values, index, octets, ahead, partial, ending, x, sums)
    if vectors == 3:
        return row_lanes.tile_and_rest(3, 4, panel, values, index, octets, ahead, partial, ending, x, sums)
    if rest == 1:
        return row_lanes.tile_and_rest(4, 1, panel, values, index, octets, ahead, partial, ending, x, sums)
    return row_lanes.tile_and_rest(4, 4, panel, values, index, octets, ahead, partial, ending, x, sums)


@kernel_jit
def _sums_to_rows(call: Call, block: Block, work: Work, clip: tuple[np.float32, np.float32], sums: int) -> int:
    """Transpose the finished channels of this share, (channels, lanes) at address `sums`, into the output's rows.

    A residual is added, and the sum clipped, on the way.

    8 rows at a time, 128 channels each: rows that are a multiple of 4096 bytes apart lie in the same few lines of L1,
    and with 16 of them, or shorter pieces, a line takes 8 to 25 cycles instead of 3.
    """
    stride = block.vectors * REGISTER
    first = work.first_tile * CHANNELS
    last = min(call.n, work.last_tile * CHANNELS)
    rows = min(block.vectors * LANES, call.last_lane - block.first_lane)
    for begin in range(first, last, _PIECE):
        end = min(last, begin + _PIECE)
        for row in range(0, rows, transpose.HALF):
            at = (block.first_lane + row) * call.out_stride
            for channel in range(begin, end, LANES):
                transpose.transpose_half_out(
                    sums + (channel - first) * stride + row * 4,
                    stride,
                    call.residual + at + channel * 4 if call.residual != 0 else 0,
                    clip[0],
                    clip[1],
                    call.out + at + channel * 4,
                    call.out_stride,
                    min(transpose.HALF, rows - row),
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


class RestPlaces(NamedTuple):
    """Where in a share's scratch the rows beside a panel lie, in items."""

    panel_at: int
    rows_at: int
    finished_at: int
    sums_at: int


@kernel_arithmetic
def rest_places(rest_at: int, length: int) -> RestPlaces:
    """Return where the rows beside panel blocks of up to `length` elements lie.

    As lanes of a vector, (length + 16, 16); as rows, (octets, rows, 8); 16 channels of finished rows; the sums of all
    tiles, (tiles, 4 rows, 4 channels).
    """
    rows_at = rest_at + (length + LANES) * LANES
    finished_at = rows_at + (length + LANES) * MOST_REST
    return RestPlaces(rest_at, rows_at, finished_at, finished_at + LANES * LANES)


@kernel_jit
def _rest_into_rows(
    indirection: Indirection,
    source: int,
    block: Block,
    floats: int,
    table: NDArray[np.int32],
    copies: NDArray[np.int64],
) -> int:
    """Pack the pixels beside a panel block, whose origins are in `table`. Returns 0 if all are finite."""
    places = rest_places(block.rest_at, block.length)
    panel, out = floats + places.panel_at * 4, floats + places.rows_at * 4
    k0, k = block.first_octet * REDUCTION, block.octets * REDUCTION
    spoiled = pixels_into_panel(indirection, source, 1, k0, k, panel, table, copies)
    for octet in range(0, block.octets, 2):
        here = panel + octet * REDUCTION * REGISTER
        if block.rest == 1:
            copy.spread_rest(1, here, out + octet * REDUCTION * 4)
        else:
            copy.spread_rest(4, here, out + octet * MOST_REST * REDUCTION * 4)
    return spoiled


@kernel_jit
def _skip_zeros_of_rest(
    block: Block,
    tile: int,
    values: NDArray[np.float32],
    index: NDArray[np.uint8],
    floats: NDArray[np.float32],
    sums_at: int,
) -> int:
    """Do for the pixels beside a panel what :func:`_skip_zeros` does for the panel."""
    places, stop = rest_places(block.rest_at, block.length), block.first_octet + block.octets
    rows = as_matrix(floats[places.panel_at :], block.octets * REDUCTION, LANES)
    found = as_matrix(floats[places.finished_at :], CHANNELS, LANES)
    found[:] = 0
    multiply_tile(rows, values[tile, block.first_octet : stop], index[tile, block.first_octet : stop], found)
    for row in range(MOST_REST):
        for channel in range(CHANNELS):
            at = sums_at + row * CHANNELS + channel
            before = floats[at] if block.first_octet > 0 else np.float32(0)
            floats[at] = before + found[channel, row]
    return 0


@kernel_jit
def _finish_rest(call: Call, block: Block, work: Work, clip: tuple[np.float32, np.float32], floats: int) -> int:
    """Bias, clip and store the pixels beside the last panel, 16 channels at a time; sums at address `floats`."""
    places = rest_places(block.rest_at, block.length)
    finished, stride = floats + places.finished_at * 4, call.lanes * 4
    low, high = clip
    if call.residual != 0:
        # It is added, and the sum clipped, while pixels are transposed.
        low, high = np.float32(-np.inf), np.float32(np.inf)
    for tile in range(work.first_tile, work.last_tile, LANES // CHANNELS):
        channel = tile * CHANNELS
        channels = min(LANES, min(call.n, work.last_tile * CHANNELS) - channel)
        sums = floats + places.sums_at * 4 + (tile - work.first_tile) * REGISTER
        bias = call.bias + channel * 4
        channel_lanes.finish_rows(sums, REGISTER, bias, 0, low, high, finished, REGISTER, call.rest, channels)
        at = ((block.image * call.n + channel) * call.lanes + call.last_lane) * 4
        residual = call.residual + at if call.residual != 0 else 0
        transpose.transpose_out(
            finished, REGISTER, residual, clip[0], clip[1], call.out + at, stride, channels, call.rest
        )
    return 0


@kernel_jit
def _ending(
    call: Call, block: Block, tile: int, clip: tuple[np.float32, np.float32], is_last: bool, sums: int
) -> Ending:
    """Return what becomes of the sums of one tile of channels that has met a panel block.

    Sums of a matrix product that a residual is added to are clipped later, while they are transposed.
    """
    stride, channel = block.vectors * REGISTER, tile * CHANNELS
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
        ahead = call.octets * _WEIGHT_BYTES
        if tile + 1 == work.last_tile:
            # What is next is the first tile, for the next block of k, or for the next panel from the start.
            further = -block.first_octet if is_last else block.octets
            ahead = further * _WEIGHT_BYTES - number * ahead
        if block.rest:
            rest = rest_places(block.rest_at, block.length)
            rest_sums = panel + rest.sums_at * 4 + number * REGISTER
            if spoiled:
                _skip_zeros_of_rest(block, tile, values, index, floats, rest.sums_at + number * LANES)
            x = panel + rest.rows_at * 4
            register_tile_and_rest(
                block.vectors, block.rest, panel, weights, positions, octets, ahead, partial, ending, x, rest_sums
            )
        else:
            register_tile(block.vectors, panel, weights, positions, octets, ahead, partial, ending)
        weights += call.octets * _WEIGHT_BYTES
        positions += call.octets * CHANNELS
    if is_last and not call.is_conv:
        _sums_to_rows(call, block, work, clip, held)
    if is_last and block.rest:
        _finish_rest(call, block, work, clip, panel)
    return 0


@kernel_jit
def run_panels(
    call: Call,
    work: Work,
    indirection: Indirection,
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
    call, work, indirection
        What to compute; the indirection matters to no matmul.
    clip
        Bounds, float32.
    values, index
        Of :func:`.weight.pack`.
    floats
        Scratch of :func:`float_scratch` items, 64-byte aligned: the panel block, the partial sums.
    copies, lane_table
        Scratch of (:data:`COPIES`, 4) and (3 * 16 * 6,).
    """
    rows, most = call.last_lane - call.first_lane, MOST_BESIDE if call.rest else MAX_VECTORS
    panels = panel_count(rows, most)
    panel = int(np.intp(floats.ctypes.data))
    sums = -(-(work.last_tile - work.first_tile) * CHANNELS // LANES) * LANES
    for job in range(work.first_panel, work.last_panel):
        image = job // panels
        first, vectors = panel_bounds(rows, most, job - image * panels)
        rest = 0
        if call.rest and job - image * panels == panels - 1:
            rest = 1 if call.rest == 1 else MOST_REST
        lane = call.first_lane + first
        width = vectors * LANES
        length = block_length(call.octets * REDUCTION, vectors, call.panel_bytes)
        sums_at = (length + LANES) * width
        source = call.x + image * indirection.channels * indirection.height * indirection.width * 4
        table = as_matrix(lane_table, 3, width)
        rest_table = as_matrix(lane_table[lane_table.size - 3 * LANES :], 3, LANES)
        if call.is_conv:
            lane_origins(indirection, lane, table[0], table[1])
        if rest:
            # Beside it there are panels of at most 4 vectors: the table's end is free.
            lane_origins(indirection, call.last_lane, rest_table[0], rest_table[1])
        for octet in range(0, call.octets, length // REDUCTION):
            octets = min(call.octets - octet, length // REDUCTION)
            block = Block(image, lane, vectors, octet, octets, sums_at, rest, sums_at + sums * width, length)
            k0, k = octet * REDUCTION, octets * REDUCTION
            if call.is_conv:
                spoiled = pixels_into_panel(indirection, source, vectors, k0, k, panel, table, copies)
                if rest:
                    spoiled |= _rest_into_rows(indirection, source, block, panel, rest_table, copies)
            else:
                spoiled = rows_into_panel(call, lane, vectors, k0, k, panel)
            _multiply_tiles(call, block, work, values, index, clip, floats, spoiled)
    return 0


def float_scratch(call: Call, tiles: int) -> int:
    """Return the float32 items of scratch that a share of `tiles` channel tiles needs."""
    widest = min(MOST_BESIDE if call.rest else MAX_VECTORS, -(-(call.last_lane - call.first_lane) // LANES))
    k = call.octets * REDUCTION
    # Panels of one call differ by one vector, and the narrower have longer blocks.
    panel = max(
        (block_length(k, vectors, call.panel_bytes) + LANES) * vectors * LANES
        for vectors in range(max(1, widest // 2), widest + 1)
    )
    # Channels are transposed by 16.
    channels = -(-tiles * CHANNELS // LANES) * LANES
    if call.rest == 0:
        return panel + channels * widest * LANES
    length = max(block_length(k, vectors, call.panel_bytes) for vectors in range(FEWEST_BESIDE, widest + 1))
    return panel + channels * widest * LANES + rest_places(0, length).sums_at + channels * MOST_REST
