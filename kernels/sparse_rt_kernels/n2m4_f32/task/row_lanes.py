"""What a thread does with lanes of rows: panels, blocks of k, tiles of channels; packing before, epilogue after.

For one panel of up to 6 x 16 lanes and one block of k, the block of X is brought into a panel (k, lanes) that stays in
L1, and every tile of 4 output channels streams once over it. Between blocks of k the partial sums of all tiles lie
one after the other, in L2. A convolution's tiles end in the output; a matrix product's end there too, and are
transposed.
"""

import numpy as np
from numpy.typing import NDArray

from sparse_rt_kernels.jit.compilation import kernel_jit
from sparse_rt_kernels.n2m4_f32.blocking.panels import (
    CHANNELS,
    MAX_VECTORS,
    MOST_BESIDE,
    MOST_REST,
    REDUCTION,
    WEIGHT_BYTES,
    block_length,
    panel_bounds,
    panel_count,
)
from sparse_rt_kernels.n2m4_f32.blocking.row_lanes import rest_places
from sparse_rt_kernels.n2m4_f32.blocking.shares import Share
from sparse_rt_kernels.n2m4_f32.task.block import Block
from sparse_rt_kernels.n2m4_f32.task.panels import pixels_into_panel, rows_into_panel
from sparse_rt_kernels.n2m4_f32.task.rest import finish_rest, rest_into_rows, skip_zeros_of_rest
from sparse_rt_kernels.n2m4_f32.task.scratch import Scratch
from sparse_rt_kernels.n2m4_f32.tile import row_lanes, transpose
from sparse_rt_kernels.n2m4_f32.tile.row_lanes import Operands
from sparse_rt_kernels.product.f32.call import Call, residual_at
from sparse_rt_kernels.product.f32.ending import Ending
from sparse_rt_kernels.product.f32.n2m4 import add_skipping
from sparse_rt_kernels.product.indirection import Indirection, lane_origins
from sparse_rt_kernels.threads.workspace import as_matrix
from sparse_rt_kernels.vectors.registers import LANES, REGISTER

__all__ = ["register_tile", "register_tile_and_rest", "run_panels"]

# Channels of a row that are written one after the other.
_PIECE = 128


@kernel_jit
def register_tile(vectors: int, operands: Operands, ending: Ending) -> int:
    """Run the register tile of `vectors` vectors; see :func:`.tile.row_lanes.tile`."""
    if vectors == 6:
        return row_lanes.tile(6, operands, ending)
    if vectors == 5:
        return row_lanes.tile(5, operands, ending)
    if vectors == 4:
        return row_lanes.tile(4, operands, ending)
    if vectors == 3:
        return row_lanes.tile(3, operands, ending)
    if vectors == 2:
        return row_lanes.tile(2, operands, ending)
    return row_lanes.tile(1, operands, ending)


@kernel_jit
def register_tile_and_rest(vectors: int, rest: int, operands: Operands, ending: Ending, x: int, sums: int) -> int:
    """Run the register tile of 3 or 4 vectors and up to 4 rows beside; see :func:`.tile.row_lanes.tile_and_rest`."""
    if vectors == 3 and rest == 1:
        return row_lanes.tile_and_rest(3, 1, operands, ending, x, sums)
    if vectors == 3:
        return row_lanes.tile_and_rest(3, 4, operands, ending, x, sums)
    if rest == 1:
        return row_lanes.tile_and_rest(4, 1, operands, ending, x, sums)
    return row_lanes.tile_and_rest(4, 4, operands, ending, x, sums)


@kernel_jit
def _sums_to_rows(call: Call, block: Block, share: Share, sums: int) -> int:
    """Transpose the finished channels of this share, (channels, lanes) at address `sums`, into the output's rows.

    A residual is added, and the sum clipped, on the way.

    8 rows at a time, 128 channels each: rows that are a multiple of 4096 bytes apart lie in the same few lines of L1,
    and with 16 of them, or shorter pieces, a line takes 8 to 25 cycles instead of 3.
    """
    stride = block.vectors * REGISTER
    first = share.first_tile * CHANNELS
    last = min(call.n, share.last_tile * CHANNELS)
    rows = min(block.vectors * LANES, share.last_lane - block.first_lane)
    for begin in range(first, last, _PIECE):
        end = min(last, begin + _PIECE)
        for row in range(0, rows, transpose.HALF):
            left, at = min(transpose.HALF, rows - row), (block.first_lane + row) * call.out_stride
            for channel in range(begin, end, LANES):
                to = at + channel * 4
                residual, channels = residual_at(call, to), min(LANES, end - channel)
                ending = Ending(0, call.low, call.high, residual, call.out + to, call.out_stride, left, channels)
                transpose.transpose_half_out(sums + (channel - first) * stride + row * 4, stride, ending)
    return 0


@kernel_jit
def _skip_zeros(block: Block, values: int, indexes: int, floats: NDArray[np.float32], sums_at: int) -> int:
    """Add a panel that holds inf or NaN to the partial sums of one tile, by the loops that skip stored zeros."""
    width = block.vectors * LANES
    rows = as_matrix(floats, block.octets * REDUCTION, width)
    sums = as_matrix(floats[sums_at:], CHANNELS, width)
    if block.first_octet == 0:
        sums[:] = 0
    return add_skipping(rows, values, indexes, sums)


@kernel_jit
def _ending(call: Call, block: Block, last_lane: int, tile: int, is_last: bool, sums: int) -> Ending:
    """Return what becomes of the sums of one tile of channels that has met a panel block.

    Sums of a matrix product that a residual is added to are clipped later, while they are transposed.
    """
    stride, channel = block.vectors * REGISTER, tile * CHANNELS
    low, high = np.float32(-np.inf), np.float32(np.inf)
    if not is_last:
        return Ending(0, low, high, 0, sums, stride, CHANNELS, LANES)
    bias, channels = call.bias + channel * 4, min(CHANNELS, call.n - channel)
    if call.is_conv or call.residual == 0:
        low, high = call.low, call.high
    if not call.is_conv:
        return Ending(bias, low, high, 0, sums, stride, channels, LANES)
    at = ((block.image * call.n + channel) * call.rows + block.first_lane) * 4
    last_lanes = min(LANES, last_lane - block.first_lane - (block.vectors - 1) * LANES)
    return Ending(bias, low, high, residual_at(call, at), call.out + at, call.rows * 4, channels, last_lanes)


@kernel_jit
def _multiply_tiles(call: Call, block: Block, share: Share, floats: NDArray[np.float32], spoiled: int) -> int:
    """Run every tile of channels of this share over one panel block; after the last block, finish them."""
    width = block.vectors * LANES
    is_last = block.first_octet + block.octets == call.octets
    panel = int(np.intp(floats.ctypes.data))
    held = panel + block.sums_at * 4
    first = share.first_tile * call.octets + block.first_octet
    values, indexes = call.values + first * WEIGHT_BYTES, call.indexes + first * CHANNELS
    octets = block.octets
    tile_bytes = CHANNELS * width * 4
    for tile in range(share.first_tile, share.last_tile):
        number = tile - share.first_tile
        sums = held + number * tile_bytes
        if spoiled:
            # The register tile multiplies stored zeros too, and 0 * inf is NaN.
            _skip_zeros(block, values, indexes, floats, block.sums_at + number * CHANNELS * width)
            octets = 0
        partial = sums if block.first_octet > 0 or spoiled else 0
        ending = _ending(call, block, share.last_lane, tile, is_last, sums)
        ahead = call.octets * WEIGHT_BYTES
        if tile + 1 == share.last_tile:
            # What is next is the first tile, for the next block of k, or for the next panel from the start.
            further = -block.first_octet if is_last else block.octets
            ahead = further * WEIGHT_BYTES - number * ahead
        operands = Operands(panel, values, indexes, octets, ahead, partial)
        if block.rest:
            rest = rest_places(block.rest_at, block.length)
            if spoiled:
                skip_zeros_of_rest(block, values, indexes, floats, rest.sums_at + number * LANES)
            x, rest_sums = panel + rest.rows_at * 4, panel + rest.sums_at * 4 + number * REGISTER
            register_tile_and_rest(block.vectors, block.rest, operands, ending, x, rest_sums)
        else:
            register_tile(block.vectors, operands, ending)
        values += call.octets * WEIGHT_BYTES
        indexes += call.octets * CHANNELS
    if is_last and not call.is_conv:
        _sums_to_rows(call, block, share, held)
    if is_last and block.rest:
        finish_rest(call, block, share, panel)
    return 0


@kernel_jit
def run_panels(call: Call, share: Share, indirection: Indirection, scratch: Scratch) -> int:
    """Compute one thread's share of ``out = clip(X W^T + bias + residual)``; return 0.

    The indirection matters to no matmul.
    """
    rows, most = share.last_lane - share.first_lane, MOST_BESIDE if share.rest else MAX_VECTORS
    panels = panel_count(rows, most)
    lane_table, copies = scratch.lane_table, scratch.copies
    panel = int(np.intp(scratch.floats.ctypes.data))
    sums = -(-(share.last_tile - share.first_tile) * CHANNELS // LANES) * LANES
    for job in range(share.first_panel, share.last_panel):
        image = job // panels
        first, vectors = panel_bounds(rows, most, job - image * panels)
        rest = 0
        if share.rest and job - image * panels == panels - 1:
            rest = 1 if share.rest == 1 else MOST_REST
        lane = share.first_lane + first
        width = vectors * LANES
        length = block_length(call.octets * REDUCTION, vectors, share.panel_bytes)
        sums_at = (length + LANES) * width
        source = call.x + image * indirection.channels * indirection.height * indirection.width * 4
        table = as_matrix(lane_table, 3, width)
        rest_table = as_matrix(lane_table[lane_table.size - 3 * LANES :], 3, LANES)
        if call.is_conv:
            lane_origins(indirection, lane, table[0], table[1])
        if rest:
            # Beside it there are panels of at most 4 vectors: the table's end is free.
            lane_origins(indirection, share.last_lane, rest_table[0], rest_table[1])
        for octet in range(0, call.octets, length // REDUCTION):
            octets = min(call.octets - octet, length // REDUCTION)
            block = Block(image, lane, vectors, octet, octets, sums_at, rest, sums_at + sums * width, length)
            k0, k = octet * REDUCTION, octets * REDUCTION
            if call.is_conv:
                spoiled = pixels_into_panel(indirection, source, vectors, k0, k, panel, table, copies)
                if rest:
                    spoiled |= rest_into_rows(indirection, source, block, panel, rest_table, copies)
            else:
                spoiled = rows_into_panel(call, share.last_lane, lane, vectors, k0, k, panel)
            _multiply_tiles(call, block, share, scratch.floats, spoiled)
    return 0
