"""What one thread does in a call of the portable float32 kernel: panels of rows, multiplied by tiles of channels."""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparse_rt_kernels.jit.compilation import kernel_jit
from sparse_rt_kernels.jit.compiler import carray
from sparse_rt_kernels.n2m4_f32.blocking.panels import CHANNELS, PORTABLE_VECTORS, REDUCTION, panel_bounds, panel_count
from sparse_rt_kernels.product.f32.call import CALL, Call, call_in, share_record
from sparse_rt_kernels.product.f32.n2m4 import SLOTS, add_skipping
from sparse_rt_kernels.product.indirection import Indirection, indirection_in, lane_offsets, lane_origins
from sparse_rt_kernels.threads.workspace import array_at
from sparse_rt_kernels.vectors.registers import LANES

__all__ = ["SHARE", "Share", "portable_task", "task_bytes"]


class Share(NamedTuple):
    """What one task computes: panels (over all images) and channel tiles, half-open ranges; reduction by `block`."""

    first_panel: int
    last_panel: int
    first_tile: int
    last_tile: int
    block: int


SHARE: Final = share_record(Share._fields)
#: Rows of the widest panel.
_ROWS: Final = PORTABLE_VECTORS * LANES


def task_bytes(block: int, tiles: int) -> int:
    """Return the scratch bytes of a task with up to so many tiles: a panel block, sums, what lanes read."""
    return (block + tiles * CHANNELS + 3) * _ROWS * 4


@kernel_jit
def _rows_into_panel(x: int, stride: int, columns: int, rows: int, panel: NDArray[np.float32]) -> int:
    """``panel[k, p] = x[p, k]`` for `rows` rows of x, zero beyond x."""
    panel[:] = 0
    for row in range(rows):
        read = array_at(x + row * stride, (min(panel.shape[0], columns),), np.float32)
        for column in range(read.shape[0]):
            panel[column, row] = read[column]
    return 0


@kernel_jit
def _pixels_into_panel(
    image: NDArray[np.float32],
    indirection: Indirection,
    first_pixel: int,
    k0: int,
    panel: NDArray[np.float32],
    lanes: NDArray[np.int32],
) -> int:
    """``panel[k, p]`` = the element of `image` (c, h * w) that pixel first_pixel + p reads at index k0 + k."""
    panel[:] = 0
    padded = -(-indirection.channels // 4) * 4
    total = padded * indirection.kernel_rows * indirection.kernel_columns
    lane_origins(indirection, first_pixel, lanes[0], lanes[1])
    k, end = k0, min(k0 + panel.shape[0], total)
    while k < end:
        position = k // padded
        channel = k - position * padded
        stop = min(end, (position + 1) * padded)
        if lane_offsets(indirection, position, lanes[0], lanes[1], lanes[2]) > 0:
            for row in range(k, min(stop, position * padded + indirection.channels)):
                for lane in range(panel.shape[1]):
                    if lanes[2, lane] >= 0:
                        panel[row - k0, lane] = image[channel + row - k, lanes[2, lane]]
        k = stop
    return 0


@kernel_jit
def _finish(total: np.float32, bias: np.float32, low: np.float32, high: np.float32) -> np.float32:
    """Return clip(total + bias); NaN stays NaN."""
    result = total + bias
    # Comparisons with NaN are false, so that a NaN passes both.
    return low if result < low else high if result > high else result


@kernel_jit
def _store(call: Call, image: int, first: int, rows: int, first_tile: int, sums: NDArray[np.float32]) -> int:
    """Store the sums of `rows` rows and of the channels of some tiles."""
    channel, n = first_tile * CHANNELS, call.n
    end = min(n, channel + sums.shape[0])
    bias = array_at(call.bias, (n,), np.float32)
    if call.is_conv:
        for c in range(channel, end):
            row = array_at(call.out + ((image * n + c) * call.rows + first) * 4, (rows,), np.float32)
            for p in range(rows):
                row[p] = _finish(sums[c - channel, p], bias[c], call.low, call.high)
        return 0
    for p in range(rows):
        row = array_at(call.out + (first + p) * call.out_stride, (n,), np.float32)
        for c in range(channel, end):
            row[c] = _finish(sums[c - channel, p], bias[c], call.low, call.high)
    return 0


def portable_task(task: int, arguments: Any, x: int, other: int, out: int, shared: int, scratch: int) -> int:
    """``out[m, n] = clip(sum_k x[m, k] w[n, k] + bias[n])`` for one range of panels and one of channel tiles."""
    a = carray(arguments, (1,), CALL)[0]
    share = array_at(a.shares, (task + 1,), SHARE)[task]
    call, indirection = call_in(a, x, 0, out), indirection_in(a)
    panel = array_at(scratch, (share.block, _ROWS), np.float32)
    scratch += share.block * _ROWS * 4
    channels = (share.last_tile - share.first_tile) * CHANNELS
    sums = array_at(scratch, (channels, _ROWS), np.float32)
    origins = array_at(scratch + channels * _ROWS * 4, (3, _ROWS), np.int32)
    panels, pixels = panel_count(call.rows, PORTABLE_VECTORS), indirection.height * indirection.width
    for job in range(share.first_panel, share.last_panel):
        image, number = job // panels, job % panels
        first, vectors = panel_bounds(call.rows, PORTABLE_VECTORS, number)
        rows = min(vectors * LANES, call.rows - first)
        sums[:] = 0
        for octet in range(0, call.octets, share.block // REDUCTION):
            k0 = octet * REDUCTION
            if call.is_conv:
                place = x + image * indirection.channels * pixels * 4
                read = array_at(place, (indirection.channels, pixels), np.float32)
                _pixels_into_panel(read, indirection, first, k0, panel, origins)
            else:
                place = x + first * call.x_stride + k0 * 4
                _rows_into_panel(place, call.x_stride, max(0, call.columns - k0), rows, panel)
            used = panel[: (call.octets - octet) * REDUCTION]
            for tile in range(share.first_tile, share.last_tile):
                at, held = (tile - share.first_tile) * CHANNELS, tile * call.octets + octet
                values, indexes = call.values + held * SLOTS * CHANNELS * 4, call.indexes + held * CHANNELS
                add_skipping(used, values, indexes, sums[at : at + CHANNELS])
        _store(call, image, first, rows, share.first_tile, sums)
    return 0
