"""The task of the float32 tiles of any vector width: panels of lanes, blocks of k, tiles of channels."""

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_rt_kernels.jit.compilation import Compiled, TaskFunction, kernel_jit
from sparse_rt_kernels.jit.compiler import carray
from sparse_rt_kernels.product.f32.call import CALL, Call, call_in, share_record
from sparse_rt_kernels.product.f32.ending import Ending
from sparse_rt_kernels.product.f32.weight import REDUCTION
from sparse_rt_kernels.product.indirection import indirection_in, lane_origins
from sparse_rt_kernels.threads.workspace import as_matrix, as_pointer
from sparse_rt_kernels.tiled_f32.blocking import Shape, Share
from sparse_rt_kernels.tiled_f32.task.panels import Block, pixels_into_panel, rows_into_panel
from sparse_rt_kernels.tiled_f32.tile import finish, multiply
from sparse_rt_kernels.tiled_f32.tile.multiply import Operands
from sparse_rt_kernels.tiled_f32.weight import STRATEGIES, number_of

__all__ = ["SHARE", "product_task", "task_bytes"]

#: A :class:`.blocking.Share`.
SHARE = share_record(Share._fields)
_SHARE_BYTES = SHARE.itemsize


def task_bytes(shape: Shape, block_octets: int, tiles: int) -> int:
    """Return the scratch bytes of a task with up to `tiles` tiles of channels: lanes, a panel block, sums."""
    kept = -(-tiles * shape.channels // shape.lanes) * shape.lanes
    return (3 + block_octets * REDUCTION + shape.lanes + kept) * shape.lanes * shape.vectors * 4


@kernel_jit
def _share(address: int) -> Share:
    s = carray(as_pointer(address), (1,), SHARE)[0]
    return Share(s.first_panel, s.last_panel, s.first_tile, s.last_tile, s.block_octets)


@kernel_jit
def _finish_strip(lanes: int, call: Call, block: Block, channel: int, channels: int, sums: int) -> int:
    """Store up to `lanes` channels from `channel` on, whose sums are (channels, vectors * lanes)."""
    row_bytes, bias = block.vectors * lanes * 4, call.bias + channel * 4
    low, high = call.low, call.high
    for vector in range(block.vectors):
        row = block.first_row + vector * lanes
        left, source = min(lanes, call.rows - row), sums + vector * lanes * 4
        if call.is_conv:
            plane = call.rows * 4
            out = call.out + (block.image * call.n + channel) * plane + row * 4
            for c in range(channels):
                ending = Ending(bias + c * 4, low, high, 0, out + c * plane, plane, 1, left)
                if lanes == 16:
                    finish.finish_plane(16, source + c * row_bytes, ending)
                else:
                    finish.finish_plane(8, source + c * row_bytes, ending)
        else:
            out = call.out + row * call.out_stride + channel * 4
            ending = Ending(bias, low, high, 0, out, call.out_stride, left, channels)
            if lanes == 16:
                finish.finish_rows(16, source, row_bytes, ending)
            else:
                finish.finish_rows(8, source, row_bytes, ending)
    return 0


@functools.cache
def _multiply_tiles(shape: Shape, format: str) -> Compiled[[Call, Share, Block, NDArray[np.float32], int], int]:
    """Return what lets all tiles of channels of a share meet a panel block, and finishes them after the last one."""
    # Compiled code is found again by what the function captures: by ints, and by names of compiled functions.
    lanes, most, channels = shape
    strip, most_lanes = lanes // channels, lanes * most
    strategy = number_of(format)
    weight = STRATEGIES[strategy]
    octet_bytes, index_bytes = 4 * weight.slots * channels, weight.index_bytes * channels
    skips, add_skipping = int(weight.add_skipping is not None), weight.add_skipping

    @kernel_jit
    def multiply_tiles(call: Call, share: Share, block: Block, floats: NDArray[np.float32], spoiled: int) -> int:
        vectors, width = block.vectors, block.vectors * lanes
        panel = int(np.intp(floats.ctypes.data))
        sums_at = (share.block_octets * REDUCTION + lanes) * most_lanes
        is_last = block.first_octet + block.octets == call.octets
        for tile in range(share.first_tile, share.last_tile):
            own, at = tile - share.first_tile, tile * call.octets + block.first_octet
            held = floats[sums_at + own * channels * width :][: channels * width]
            values, indexes = call.values + at * octet_bytes, call.indexes + at * index_bytes
            sums = int(np.intp(held.ctypes.data))
            operands = Operands(panel, values, indexes, block.octets, sums, block.first_octet)
            if skips and spoiled:
                # The tile multiplies stored zeros too, and 0 * inf is NaN: take the loops that skip them.
                if block.first_octet == 0:
                    held[:] = 0
                rows = as_matrix(floats, block.octets * REDUCTION, width)
                add_skipping(rows, values, indexes, as_matrix(held, channels, width))
            elif vectors == 6:
                multiply.tile(lanes, 6, channels, strategy, operands)
            elif vectors == 5:
                multiply.tile(lanes, 5, channels, strategy, operands)
            elif vectors == 4:
                multiply.tile(lanes, 4, channels, strategy, operands)
            elif vectors == 3:
                multiply.tile(lanes, 3, channels, strategy, operands)
            elif vectors == 2:
                multiply.tile(lanes, 2, channels, strategy, operands)
            else:
                multiply.tile(lanes, 1, channels, strategy, operands)
            if is_last and (own % strip == strip - 1 or tile == share.last_tile - 1):
                channel = (tile - own % strip) * channels
                present = min(call.n - channel, (own % strip + 1) * channels)
                finished = panel + (sums_at + own // strip * lanes * width) * 4
                _finish_strip(lanes, call, block, channel, present, finished)
        return 0

    return multiply_tiles


@functools.cache
def product_task(shape: Shape, format: str) -> TaskFunction:
    """Return the task that computes one share of a call, compiled for `shape` and weights of `format`.

    Its scratch holds each lane's row and column and room for offsets, a panel block of (8 * block_octets + lanes) rows,
    and the sums of the share's channels, rounded up to `lanes`; all of them ``vectors * lanes`` wide.
    """
    lanes, most, channels = shape
    most_lanes = lanes * most
    multiply_tiles = _multiply_tiles(shape, format)

    def task(task: int, arguments: Any, x: int, other: int, out: int, shared: int, scratch: int) -> int:
        """Compute the panels and tiles of channels of one share."""
        a = carray(arguments, (1,), CALL)[0]
        share, call, indirection = _share(a.shares + task * _SHARE_BYTES), call_in(a, x, 0, out), indirection_in(a)
        all_vectors = (call.rows + lanes - 1) // lanes
        panels = (all_vectors + most - 1) // most
        lane_table = carray(as_pointer(scratch), (3, most_lanes), np.int32)
        panel = scratch + 12 * most_lanes
        kept = ((share.last_tile - share.first_tile) * channels + lanes - 1) // lanes * lanes
        items = (share.block_octets * REDUCTION + lanes + kept) * most_lanes
        floats = carray(as_pointer(panel), (items,), np.float32)
        for job in range(share.first_panel, share.last_panel):
            image, number = job // panels, job % panels
            # Widths of panels differ by at most one register.
            first = number * all_vectors // panels
            vectors = (number + 1) * all_vectors // panels - first
            table = lane_table[:, : vectors * lanes]
            if call.is_conv:
                lane_origins(indirection, first * lanes, table[0], table[1])
            for octet in range(0, call.octets, share.block_octets):
                block = Block(image, first * lanes, vectors, octet, min(call.octets - octet, share.block_octets))
                if call.is_conv:
                    spoiled = pixels_into_panel(lanes, x, indirection, block, panel, table)
                else:
                    spoiled = rows_into_panel(lanes, call, block, panel)
                multiply_tiles(call, share, block, floats, spoiled)
        return 0

    return task
