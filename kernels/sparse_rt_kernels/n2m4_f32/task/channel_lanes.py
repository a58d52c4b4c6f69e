"""The macro-kernel of the channel-lane shape: for few activation rows, where lanes of rows would stay empty.

A panel of up to 96 rows is cut into groups of up to 25, each packed as (octets, rows, 8), which is what the register
tile reads. A tile of 4 channels meets every group while its weights are in L1, so that a call streams them once.
"""

import functools
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sparse_rt_kernels.cpu.caches import level1_bytes
from sparse_rt_kernels.jit.compilation import kernel_arithmetic, kernel_jit
from sparse_rt_kernels.n2m4_f32.blocking import CHANNELS, MAX_VECTORS, REDUCTION, Work, panel_bounds, panel_count
from sparse_rt_kernels.n2m4_f32.task.call import Call
from sparse_rt_kernels.n2m4_f32.task.panels import pixels_into_panel
from sparse_rt_kernels.n2m4_f32.task.row_lanes import run_panels
from sparse_rt_kernels.n2m4_f32.tile import channel_lanes, transpose
from sparse_rt_kernels.product.indirection import Indirection, lane_origins
from sparse_rt_kernels.threads.workspace import as_matrix
from sparse_rt_kernels.vectors.registers import LANES, REGISTER

__all__ = [
    "MAX_ROWS",
    "block_octets",
    "float_scratch",
    "group_bytes",
    "group_size",
    "rows_tile",
    "run_rows",
    "tiles_at_once",
]

#: Rows of the tallest register tile: as many accumulators, with weights, control, x and constants in the other seven.
MAX_ROWS: Final = 25

_OCTET_BYTES = REDUCTION * 4
_STRIP = LANES // CHANNELS
# Octets that the register tile calls ahead where it does not call the next tiles: 2 KiB of values.
_AHEAD = 32
# Octets a turn of its loop, at most.
_TURN = 4


@kernel_arithmetic
def group_size(rows: int) -> int:
    """Return the height of the register tile for `rows` rows: the least number of groups, as even as tiles exist."""
    groups = (rows + MAX_ROWS - 1) // MAX_ROWS
    size = (rows + groups - 1) // groups
    if size <= 2:
        return size
    return (size + 3) // 4 * 4 if size <= 20 else MAX_ROWS


@kernel_arithmetic
def tiles_at_once(size: int) -> int:
    """Return how many packed tiles of 4 channels the register tile of `size` rows spans.

    For few rows, four streams of weights keep the hardware's prefetchers busier than one, and more tiles give FMAs that
    do not wait for each other.
    """
    return 4 if size <= 4 else 2 if size <= 8 else 1


@kernel_jit
def octets_ahead(size: int, tile_octets: int) -> int:
    """Return how far ahead the register tile of `size` rows calls its weights, in octets.

    Few rows pass quickly through a tile. With more, a block of a tile is short, and what follows it is the same block
    of the next tiles.
    """
    return _AHEAD if size <= 4 else tiles_at_once(size) * tile_octets


@kernel_jit
def rows_tile(
    size: int,
    x: int,
    values: int,
    index: int,
    step: int,
    octets: int,
    sums: int,
    stride: int,
    tiles: int,
    resumed: int,
) -> int:
    """Run the register tile of `size` rows; see :func:`.tile.channel_lanes.rows_tile`."""
    ahead = octets_ahead(size, step)
    if size == 1:
        return channel_lanes.rows_tile(1, 4, 1, x, values, index, step, octets, ahead, sums, stride, tiles, resumed)
    if size == 2:
        return channel_lanes.rows_tile(2, 4, 1, x, values, index, step, octets, ahead, sums, stride, tiles, resumed)
    if size == 4:
        return channel_lanes.rows_tile(4, 4, 1, x, values, index, step, octets, ahead, sums, stride, tiles, resumed)
    if size == 8:
        return channel_lanes.rows_tile(8, 2, 2, x, values, index, step, octets, ahead, sums, stride, tiles, resumed)
    if size == 12:
        return channel_lanes.rows_tile(12, 1, 4, x, values, index, step, octets, ahead, sums, stride, tiles, resumed)
    if size == 16:
        return channel_lanes.rows_tile(16, 1, 4, x, values, index, step, octets, ahead, sums, stride, tiles, resumed)
    if size == 20:
        return channel_lanes.rows_tile(20, 1, 1, x, values, index, step, octets, ahead, sums, stride, tiles, resumed)
    return channel_lanes.rows_tile(25, 1, 1, x, values, index, step, octets, ahead, sums, stride, tiles, resumed)


@kernel_arithmetic
def padded(size: int) -> int:
    """Return `size` rounded up to 4, the rows whose sums share a register."""
    return (size + _STRIP - 1) // _STRIP * _STRIP


@kernel_arithmetic
def tile_bytes(rows: int, size: int) -> int:
    """Return the bytes of a tile's sums of `rows` rows in groups of `size`."""
    return (rows + size - 1) // size * padded(size) * CHANNELS * 4


@kernel_arithmetic
def block_octets(octets: int, rows: int, nbytes: int) -> int:
    """Return how many octets of `rows` packed rows go into a block of `nbytes`.

    Blocks are balanced, and of whole turns of the register tile's loop.
    """
    most = max(_TURN, nbytes // (_OCTET_BYTES * rows) // _TURN * _TURN)
    blocks = (octets + most - 1) // most
    return ((octets + blocks - 1) // blocks + _TURN - 1) // _TURN * _TURN


@kernel_jit
def _spread_rows(call: Call, first_row: int, rows: int, size: int, octet: int, octets: int, x: int) -> int:
    """Pack rows of a matrix into groups of `size` rows. Returns 0 if all are finite."""
    pitch = size * _OCTET_BYTES
    source = call.x + first_row * call.x_stride + octet * _OCTET_BYTES
    columns = max(0, min(call.columns - octet * REDUCTION, octets * REDUCTION))
    spoiled = 0
    for row in range(rows):
        to = x + row // size * (octets + 1) * pitch + row % size * _OCTET_BYTES
        spoiled |= channel_lanes.spread_row(source + row * call.x_stride, columns, octets, to, pitch)
    return spoiled


@kernel_jit
def _spread_panel(panel: int, vectors: int, size: int, octets: int, x: int, offsets: NDArray[np.int64]) -> int:
    """Pack a panel (8 * octets, lanes) into groups of `size` rows."""
    pitch = size * _OCTET_BYTES
    for lane in range(vectors * LANES):
        offsets[lane] = lane // size * (octets + 1) * pitch + lane % size * _OCTET_BYTES
    table = int(np.intp(offsets.ctypes.data))
    for octet in range(0, octets, 2):
        source = panel + octet * REDUCTION * vectors * REGISTER
        for vector in range(vectors):
            place = table + vector * LANES * 8
            channel_lanes.spread_block(source + vector * REGISTER, vectors * REGISTER, place, x + octet * pitch, pitch)
    return 0


@kernel_jit
def _finish_strip(
    call: Call,
    image: int,
    first_lane: int,
    rows: int,
    size: int,
    channel: int,
    clip: tuple[np.float32, np.float32],
    sums: int,
    finished: int,
) -> int:
    """Bias, clip and store up to 16 channels of `rows` rows, in groups of `size`, whose sums are those of 4 tiles.

    `finished` is the address of (rows, 16) floats, where a convolution's outputs wait for being transposed.
    """
    channels = min(LANES, call.n - channel)
    bias = call.bias + channel * 4
    low, high = clip
    stride, pitch = tile_bytes(rows, size), call.out_stride
    at = first_lane * pitch + channel * 4
    out, residual = call.out + at, call.residual + at if call.residual != 0 else 0
    if call.is_conv:
        # A residual is added, and the sum clipped, while it is transposed.
        out, pitch, residual = finished, REGISTER, 0
        if call.residual != 0:
            low, high = np.float32(-np.inf), np.float32(np.inf)
    for first in range(0, rows, size):
        last = min(size, rows - first)
        for row in range(0, last, _STRIP):
            here = sums + (first // size * padded(size) + row) * CHANNELS * 4
            to = (first + row) * pitch
            other = residual + to if residual != 0 else 0
            channel_lanes.finish_rows(here, stride, bias, other, low, high, out + to, pitch, last - row, channels)
    if call.is_conv:
        stride = call.lanes * 4
        for row in range(0, rows, LANES):
            here, last = finished + row * REGISTER, min(LANES, rows - row)
            at = ((image * call.n + channel) * call.lanes + first_lane + row) * 4
            other = call.residual + at if call.residual != 0 else 0
            transpose.transpose_out(here, REGISTER, other, clip[0], clip[1], call.out + at, stride, channels, last)
    return 0


@kernel_jit
def run_rows(
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
    """Compute one share of ``out = clip(X W^T + bias + residual)``; arguments as for :func:`.row_lanes.run_panels`.

    `floats` has :func:`float_scratch` items. The register tile multiplies stored zeros: rows that hold inf or NaN are
    left to lanes of rows, before any of their outputs is written.
    """
    all_rows = call.last_lane - call.first_lane
    panels = panel_count(all_rows, MAX_VECTORS)
    panel = int(np.intp(floats.ctypes.data))
    weights, positions = int(np.intp(values.ctypes.data)), int(np.intp(index.ctypes.data))
    for job in range(work.first_panel, work.last_panel):
        image = job // panels
        first, vectors = panel_bounds(all_rows, MAX_VECTORS, job - image * panels)
        lane = call.first_lane + first
        rows, width = min(vectors * LANES, call.last_lane - lane), vectors * LANES
        size = group_size(rows)
        together = tiles_at_once(size)
        length = block_octets(call.octets, (rows + size - 1) // size * size, call.panel_bytes)
        x = panel + ((length + 2) * REDUCTION * width * 4 if call.is_conv else 0)
        stride = tile_bytes(rows, size)
        finished = x + _group_items(length, width, size) * 4
        all_sums = finished + (width * REGISTER if call.is_conv else 0)
        source = call.x + image * indirection.channels * indirection.height * indirection.width * 4
        table = as_matrix(lane_table, 3, width)
        if call.is_conv:
            lane_origins(indirection, lane, table[0], table[1])
        spoiled = 0
        for octet in range(0, call.octets, length):
            octets = min(call.octets - octet, length)
            if call.is_conv:
                k0, k = octet * REDUCTION, octets * REDUCTION
                spoiled |= pixels_into_panel(indirection, source, vectors, k0, k, panel, table, copies)
                _spread_panel(panel, vectors, size, octets, x, as_matrix(copies, 1, copies.size)[0])
            else:
                spoiled |= _spread_rows(call, lane, rows, size, octet, octets, x)
            if spoiled:
                here = Work(job, job + 1, work.first_tile, work.last_tile)
                run_panels(call, here, indirection, clip, values, index, floats, copies, lane_table)
                break
            group_bytes = (octets + 1) * size * _OCTET_BYTES
            is_last = octet + octets == call.octets
            for tile in range(work.first_tile, work.last_tile, together):
                number = tile - work.first_tile
                tiles = min(together, work.last_tile - tile)
                # Of a single block only one strip is unfinished at a time.
                strip = all_sums + (number // _STRIP * _STRIP * stride if length < call.octets else 0)
                at = tile * call.octets + octet
                for group in range((rows + size - 1) // size):
                    rows_tile(
                        size,
                        x + group * group_bytes,
                        weights + at * REGISTER,
                        positions + at * CHANNELS,
                        call.octets,
                        octets,
                        strip + number % _STRIP * stride + group * padded(size) * CHANNELS * 4,
                        stride,
                        tiles,
                        octet,
                    )
                if is_last and ((number + tiles) % _STRIP == 0 or tile + tiles == work.last_tile):
                    channel = (tile - number % _STRIP) * CHANNELS
                    _finish_strip(call, image, lane, rows, size, channel, clip, strip, finished)
    return 0


@kernel_arithmetic
def _group_items(octets: int, width: int, size: int) -> int:
    """Return the floats that groups of `size` rows take, of `width` rows; a multiple of 16."""
    items = (width + size - 1) // size * size * (octets + 1) * REDUCTION
    return (items + LANES - 1) // LANES * LANES


def group_bytes() -> int:
    """Return the bytes of packed rows that make a block: they are read again for each tile, beside its weights."""
    return level1_bytes() // 2


def float_scratch(call: Call, tiles: int) -> int:
    """Return the float32 items of scratch that a share of `tiles` channel tiles needs."""
    most = 0
    lanes = call.last_lane - call.first_lane
    widest = min(MAX_VECTORS, -(-lanes // LANES))
    # Panels have nearly equally many vectors, and the last one may have fewer rows than lanes.
    for rows in range(LANES * (max(1, widest // 2) - 1) + 1, min(lanes, LANES * widest) + 1):
        most = max(most, _panel_items(rows, call.octets, call.panel_bytes, call.is_conv, tiles))
    return most


@functools.lru_cache(maxsize=1 << 14)
def _panel_items(rows: int, octets: int, nbytes: int, is_conv: int, tiles: int) -> int:
    """Return the float32 items that a panel of `rows` rows takes; the same for calls of any number of panels."""
    width, size = -(-rows // LANES) * LANES, group_size(rows)
    length = block_octets(octets, -(-rows // size) * size, nbytes)
    panel = (length + 2) * REDUCTION * width if is_conv else 0
    strips = -(-tiles // _STRIP) if length < octets else 1
    sums = strips * tile_bytes(rows, size) + (width * LANES if is_conv else 0)
    return panel + _group_items(length, width, size) + sums
