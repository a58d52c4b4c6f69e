"""What a thread does with lanes of channels, for small m, where lanes of rows would stay empty.

A panel of up to 96 rows is cut into groups of up to 25, each packed as (octets, rows, 8), which is what the register
tile reads. A tile of 4 channels meets every group while its weights are in L1, so that a call streams them once.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparse_rt_kernels.jit.compilation import kernel_jit
from sparse_rt_kernels.n2m4_f32.blocking.channel_lanes import (
    STRIP,
    block_octets,
    group_items,
    group_size,
    padded_rows,
    tile_bytes,
    tiles_at_once,
)
from sparse_rt_kernels.n2m4_f32.blocking.panels import (
    CHANNELS,
    MAX_VECTORS,
    OCTET_BYTES,
    REDUCTION,
    panel_bounds,
    panel_count,
)
from sparse_rt_kernels.n2m4_f32.blocking.shares import Share
from sparse_rt_kernels.n2m4_f32.task.panels import pixels_into_panel
from sparse_rt_kernels.n2m4_f32.task.row_lanes import run_panels
from sparse_rt_kernels.n2m4_f32.task.scratch import Scratch
from sparse_rt_kernels.n2m4_f32.tile import channel_lanes
from sparse_rt_kernels.n2m4_f32.tile.channel_lanes import Operands, finish_rows
from sparse_rt_kernels.n2m4_f32.tile.spread import spread_block, spread_row
from sparse_rt_kernels.n2m4_f32.tile.transpose import transpose_out
from sparse_rt_kernels.product.f32.call import Call, residual_at
from sparse_rt_kernels.product.f32.ending import Ending
from sparse_rt_kernels.product.indirection import Indirection, lane_origins
from sparse_rt_kernels.threads.workspace import as_matrix
from sparse_rt_kernels.vectors.registers import LANES, REGISTER

__all__ = ["rows_tile", "run_rows"]

#: Octets that the register tile calls ahead where it does not call the next tiles: 2 KiB of values.
_AHEAD: Final = 32


class Panel(NamedTuple):
    """Rows of one image, in groups, and where in a share's scratch they lie.

    Attributes
    ----------
    image, first_lane, rows, vectors
        Which rows; how many vectors of lanes they would fill.
    size
        Rows of a group.
    length
        Octets of the longest block of k.
    pixels, x, finished, sums
        Addresses: a convolution's block as lanes, the block in groups, (rows, 16) floats where a convolution's outputs
        wait for being transposed, and the sums of all tiles, or of a strip if there is one block.
    """

    image: int
    first_lane: int
    rows: int
    vectors: int
    size: int
    length: int
    pixels: int
    x: int
    finished: int
    sums: int


@kernel_jit
def _panel(call: Call, share: Share, job: int, floats: int) -> Panel:
    """Return panel number `job` of the share's image rows."""
    all_rows = share.last_lane - share.first_lane
    panels = panel_count(all_rows, MAX_VECTORS)
    image = job // panels
    first, vectors = panel_bounds(all_rows, MAX_VECTORS, job - image * panels)
    lane = share.first_lane + first
    rows, width = min(vectors * LANES, share.last_lane - lane), vectors * LANES
    size = group_size(rows)
    length = block_octets(call.octets, (rows + size - 1) // size * size, share.panel_bytes)
    x = floats + ((length + 2) * REDUCTION * width * 4 if call.is_conv else 0)
    finished = x + group_items(length, width, size) * 4
    sums = finished + (width * REGISTER if call.is_conv else 0)
    return Panel(image, lane, rows, vectors, size, length, floats, x, finished, sums)


@kernel_jit
def octets_ahead(size: int, tile_octets: int) -> int:
    """Return how far ahead the register tile of `size` rows calls its weights, in octets.

    Few rows pass quickly through a tile. With more, a block of a tile is short, and what follows it is the same block
    of the next tiles.
    """
    return _AHEAD if size <= 4 else tiles_at_once(size) * tile_octets


@kernel_jit
def rows_tile(size: int, operands: Operands) -> int:
    """Run the register tile of `size` rows; see :func:`.tile.channel_lanes.rows_tile`."""
    ahead = octets_ahead(size, operands.tile_octets)
    if size == 1:
        return channel_lanes.rows_tile(1, 4, 1, ahead, operands)
    if size == 2:
        return channel_lanes.rows_tile(2, 4, 1, ahead, operands)
    if size == 4:
        return channel_lanes.rows_tile(4, 4, 1, ahead, operands)
    if size == 8:
        return channel_lanes.rows_tile(8, 2, 2, ahead, operands)
    if size == 12:
        return channel_lanes.rows_tile(12, 1, 4, ahead, operands)
    if size == 16:
        return channel_lanes.rows_tile(16, 1, 4, ahead, operands)
    if size == 20:
        return channel_lanes.rows_tile(20, 1, 1, ahead, operands)
    return channel_lanes.rows_tile(25, 1, 1, ahead, operands)


@kernel_jit
def _spread_rows(call: Call, panel: Panel, octet: int, octets: int) -> int:
    """Pack rows of a matrix into groups. Returns 0 if all are finite."""
    size = panel.size
    pitch = size * OCTET_BYTES
    source = call.x + panel.first_lane * call.x_stride + octet * OCTET_BYTES
    columns = max(0, min(call.columns - octet * REDUCTION, octets * REDUCTION))
    spoiled = 0
    for row in range(panel.rows):
        to = panel.x + row // size * (octets + 1) * pitch + row % size * OCTET_BYTES
        spoiled |= spread_row(source + row * call.x_stride, columns, octets, to, pitch)
    return spoiled


@kernel_jit
def _spread_panel(panel: Panel, octets: int, offsets: NDArray[np.int64]) -> int:
    """Pack a block of pixels, (8 * octets, lanes), into groups."""
    size, row_bytes = panel.size, panel.vectors * REGISTER
    pitch = size * OCTET_BYTES
    for lane in range(panel.vectors * LANES):
        offsets[lane] = lane // size * (octets + 1) * pitch + lane % size * OCTET_BYTES
    table = int(np.intp(offsets.ctypes.data))
    for octet in range(0, octets, 2):
        source = panel.pixels + octet * REDUCTION * row_bytes
        for vector in range(panel.vectors):
            place = table + vector * LANES * 8
            spread_block(source + vector * REGISTER, row_bytes, place, panel.x + octet * pitch, pitch)
    return 0


@kernel_jit
def _pack(call: Call, indirection: Indirection, panel: Panel, octet: int, octets: int, scratch: Scratch) -> int:
    """Pack a block of k, from `octet` on, into groups. Returns 0 if all is finite."""
    if not call.is_conv:
        return _spread_rows(call, panel, octet, octets)
    source = call.x + panel.image * indirection.channels * indirection.height * indirection.width * 4
    table, copies = as_matrix(scratch.lane_table, 3, panel.vectors * LANES), scratch.copies
    k0, k = octet * REDUCTION, octets * REDUCTION
    spoiled = pixels_into_panel(indirection, source, panel.vectors, k0, k, panel.pixels, table, copies)
    _spread_panel(panel, octets, as_matrix(copies, 1, copies.size)[0])
    return spoiled


@kernel_jit
def _finish_strip(call: Call, panel: Panel, channel: int, sums: int) -> int:
    """Bias, clip and store up to 16 channels of all rows, whose sums are those of 4 tiles at address `sums`."""
    channels, bias = min(LANES, call.n - channel), call.bias + channel * 4
    low, high = call.low, call.high
    stride, pitch = tile_bytes(panel.rows, panel.size), call.out_stride
    at = panel.first_lane * pitch + channel * 4
    out, residual = call.out + at, residual_at(call, at)
    if call.is_conv:
        # A residual is added, and the sum clipped, while it is transposed.
        out, pitch, residual = panel.finished, REGISTER, 0
        if call.residual != 0:
            low, high = np.float32(-np.inf), np.float32(np.inf)
    for first in range(0, panel.rows, panel.size):
        last = min(panel.size, panel.rows - first)
        for row in range(0, last, STRIP):
            here = sums + (first // panel.size * padded_rows(panel.size) + row) * CHANNELS * 4
            to = (first + row) * pitch
            other = residual + to if residual != 0 else 0
            finish_rows(here, stride, Ending(bias, low, high, other, out + to, pitch, last - row, channels))
    if call.is_conv:
        for row in range(0, panel.rows, LANES):
            here, last = panel.finished + row * REGISTER, min(LANES, panel.rows - row)
            at = ((panel.image * call.n + channel) * call.rows + panel.first_lane + row) * 4
            other, to = residual_at(call, at), call.out + at
            ending = Ending(0, call.low, call.high, other, to, call.rows * 4, channels, last)
            transpose_out(here, REGISTER, ending)
    return 0


@kernel_jit
def _multiply_tiles(call: Call, share: Share, panel: Panel, octet: int, octets: int) -> int:
    """Let every tile of channels of this share meet a block of all groups; after the last block, finish them."""
    rows, size = panel.rows, panel.size
    stride, together, is_last = tile_bytes(rows, size), tiles_at_once(size), octet + octets == call.octets
    group_bytes = (octets + 1) * size * OCTET_BYTES
    for tile in range(share.first_tile, share.last_tile, together):
        number = tile - share.first_tile
        tiles = min(together, share.last_tile - tile)
        # Of a single block only one strip is unfinished at a time.
        strip = panel.sums + (number // STRIP * STRIP * stride if panel.length < call.octets else 0)
        at = tile * call.octets + octet
        for group in range((rows + size - 1) // size):
            x = panel.x + group * group_bytes
            sums = strip + number % STRIP * stride + group * padded_rows(size) * CHANNELS * 4
            weights, named = call.values + at * REGISTER, call.indexes + at * CHANNELS
            operands = Operands(x, weights, named, call.octets, octets, sums, stride, tiles, octet)
            rows_tile(size, operands)
        if is_last and ((number + tiles) % STRIP == 0 or tile + tiles == share.last_tile):
            _finish_strip(call, panel, (tile - number % STRIP) * CHANNELS, strip)
    return 0


@kernel_jit
def _one_panel(share: Share, job: int) -> Share:
    """Return the share of panel number `job` alone."""
    lanes, tiles = (share.first_lane, share.last_lane, share.rest), (share.first_tile, share.last_tile)
    return Share(share.has_channel_lanes, *lanes, job, job + 1, *tiles, share.panel_bytes, share.items)


@kernel_jit
def run_rows(call: Call, share: Share, indirection: Indirection, scratch: Scratch) -> int:
    """Compute one share of ``out = clip(X W^T + bias + residual)``; arguments as for :func:`.row_lanes.run_panels`.

    The register tile multiplies stored zeros: rows that hold inf or NaN are left to lanes of rows, before any of their
    outputs is written.
    """
    floats = int(np.intp(scratch.floats.ctypes.data))
    for job in range(share.first_panel, share.last_panel):
        panel = _panel(call, share, job, floats)
        if call.is_conv:
            table = as_matrix(scratch.lane_table, 3, panel.vectors * LANES)
            lane_origins(indirection, panel.first_lane, table[0], table[1])
        spoiled = 0
        for octet in range(0, call.octets, panel.length):
            octets = min(call.octets - octet, panel.length)
            spoiled |= _pack(call, indirection, panel, octet, octets, scratch)
            if spoiled:
                run_panels(call, _one_panel(share, job), indirection, scratch)
                break
            _multiply_tiles(call, share, panel, octet, octets)
    return 0
