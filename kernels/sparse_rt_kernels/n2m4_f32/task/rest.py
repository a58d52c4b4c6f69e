"""The rows beside a panel of a convolution, which fill no vector: they meet a tile's weights as lanes of channels."""

import numpy as np
from numpy.typing import NDArray

from sparse_rt_kernels.jit.compilation import kernel_jit
from sparse_rt_kernels.n2m4_f32.blocking.panels import CHANNELS, MOST_REST, REDUCTION
from sparse_rt_kernels.n2m4_f32.blocking.row_lanes import rest_places
from sparse_rt_kernels.n2m4_f32.blocking.shares import Share
from sparse_rt_kernels.n2m4_f32.task.block import Block
from sparse_rt_kernels.n2m4_f32.task.panels import pixels_into_panel
from sparse_rt_kernels.n2m4_f32.tile.channel_lanes import finish_rows
from sparse_rt_kernels.n2m4_f32.tile.spread import spread_rest
from sparse_rt_kernels.n2m4_f32.tile.transpose import transpose_out
from sparse_rt_kernels.product.f32.call import Call, residual_at
from sparse_rt_kernels.product.f32.ending import Ending
from sparse_rt_kernels.product.f32.n2m4 import add_skipping
from sparse_rt_kernels.product.indirection import Indirection
from sparse_rt_kernels.threads.workspace import as_matrix
from sparse_rt_kernels.vectors.registers import LANES, REGISTER

__all__ = ["finish_rest", "rest_into_rows", "skip_zeros_of_rest"]


@kernel_jit
def rest_into_rows(
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
            spread_rest(1, here, out + octet * REDUCTION * 4)
        else:
            spread_rest(4, here, out + octet * MOST_REST * REDUCTION * 4)
    return spoiled


@kernel_jit
def skip_zeros_of_rest(block: Block, values: int, indexes: int, floats: NDArray[np.float32], sums_at: int) -> int:
    """Add pixels that hold inf or NaN to the partial sums of one tile, by the loops that skip stored zeros."""
    places = rest_places(block.rest_at, block.length)
    rows = as_matrix(floats[places.panel_at :], block.octets * REDUCTION, LANES)
    found = as_matrix(floats[places.finished_at :], CHANNELS, LANES)
    found[:] = 0
    add_skipping(rows, values, indexes, found)
    for row in range(MOST_REST):
        for channel in range(CHANNELS):
            at = sums_at + row * CHANNELS + channel
            before = floats[at] if block.first_octet > 0 else np.float32(0)
            floats[at] = before + found[channel, row]
    return 0


@kernel_jit
def finish_rest(call: Call, block: Block, share: Share, floats: int) -> int:
    """Bias, clip and store the pixels beside the last panel, 16 channels at a time; the scratch is at `floats`."""
    places = rest_places(block.rest_at, block.length)
    finished = floats + places.finished_at * 4
    low, high = call.low, call.high
    if call.residual != 0:
        # It is added, and the sum clipped, while pixels are transposed.
        low, high = np.float32(-np.inf), np.float32(np.inf)
    for tile in range(share.first_tile, share.last_tile, LANES // CHANNELS):
        channel = tile * CHANNELS
        channels = min(LANES, min(call.n, share.last_tile * CHANNELS) - channel)
        sums, bias = floats + places.sums_at * 4 + (tile - share.first_tile) * REGISTER, call.bias + channel * 4
        finish_rows(sums, REGISTER, Ending(bias, low, high, 0, finished, REGISTER, share.rest, channels))
        at = ((block.image * call.n + channel) * call.rows + share.last_lane) * 4
        out, residual = call.out + at, residual_at(call, at)
        ending = Ending(0, call.low, call.high, residual, out, call.rows * 4, channels, share.rest)
        transpose_out(finished, REGISTER, ending)
    return 0
