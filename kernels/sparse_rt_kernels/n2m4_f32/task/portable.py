"""Plain loops of the float32 2:4 family: for every CPU, for NUMBA_DISABLE_JIT, and for panels that hold inf or NaN."""

import numpy as np
from numpy.typing import NDArray

from sparse_rt_kernels.jit.compilation import kernel_jit
from sparse_rt_kernels.n2m4_f32.blocking.panels import CHANNELS, REDUCTION
from sparse_rt_kernels.product.indirection import Indirection, lane_offsets, lane_origins

__all__ = ["conv_block", "matmul_block", "multiply_tile"]


@kernel_jit
def multiply_tile(
    panel: NDArray[np.float32],
    values: NDArray[np.float32],
    index: NDArray[np.uint8],
    partial: NDArray[np.float32],
) -> int:
    """``partial[c, p] += sum_s values[s, c] * panel[row(s, c), p]``, stored zeros skipped.

    Parameters
    ----------
    panel
        (8 * octets, lanes) float32; may hold inf and NaN.
    values, index
        (octets, 4, 4) float32 and (octets, 4) uint8: one tile of channels.
    partial
        (4, lanes) float32.
    """
    lanes = partial.shape[1]
    for octet in range(values.shape[0]):
        for slot in range(4):
            first_row = octet * REDUCTION + 4 * (slot // 2) + slot % 2
            for channel in range(CHANNELS):
                weight = values[octet, slot, channel]
                if weight == 0:
                    continue
                row = first_row + ((index[octet, channel] >> (2 * slot)) & 3)
                for lane in range(lanes):
                    partial[channel, lane] += weight * panel[row, lane]
    return 0


@kernel_jit
def _rows_into_panel(x: NDArray[np.float32], first_row: int, k0: int, panel: NDArray[np.float32]) -> int:
    """``panel[k, p] = x[first_row + p, k0 + k]``, zero beyond x."""
    panel[:] = 0
    rows = min(panel.shape[1], x.shape[0] - first_row)
    columns = min(panel.shape[0], x.shape[1] - k0)
    for row in range(rows):
        for column in range(columns):
            panel[column, row] = x[first_row + row, k0 + column]
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
def _finish(total: float, bias: float, low: float, high: float) -> float:
    """Return clip(total + bias); NaN stays NaN."""
    result = total + bias
    # Comparisons with NaN are false, so that a NaN passes both.
    return low if result < low else high if result > high else result


@kernel_jit
def matmul_block(
    x: NDArray[np.float32],
    values: NDArray[np.float32],
    index: NDArray[np.uint8],
    epilogue: tuple[NDArray[np.float32], float, float],
    out: NDArray[np.float32],
    workspace: tuple[NDArray[np.float32], NDArray[np.float32]],
    rows: tuple[int, int],
    tiles: tuple[int, int],
) -> int:
    """``out[m, n] = clip(sum_k x[m, k] w[n, k] + bias[n])`` for rows [rows[0], rows[1]) and a range of channel tiles.

    `workspace` is a panel (8 * octets of a block, lanes) and partial sums (4 * tiles, lanes).
    """
    panel, partial = workspace
    bias, low, high = epilogue
    block = panel.shape[0] // REDUCTION
    partial[:] = 0
    for octet in range(0, values.shape[1], block):
        stop = min(values.shape[1], octet + block)
        _rows_into_panel(x, rows[0], octet * REDUCTION, panel)
        for tile in range(tiles[0], tiles[1]):
            at = (tile - tiles[0]) * CHANNELS
            multiply_tile(panel, values[tile, octet:stop], index[tile, octet:stop], partial[at : at + CHANNELS])
    first = tiles[0] * CHANNELS
    for row in range(rows[0], rows[1]):
        for channel in range(first, min(tiles[1] * CHANNELS, out.shape[1])):
            total = partial[channel - first, row - rows[0]]
            out[row, channel] = _finish(total, bias[channel], low, high)
    return 0


@kernel_jit
def conv_block(
    image: NDArray[np.float32],
    indirection: Indirection,
    values: NDArray[np.float32],
    index: NDArray[np.uint8],
    epilogue: tuple[NDArray[np.float32], float, float],
    out: NDArray[np.float32],
    workspace: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int32]],
    pixels: tuple[int, int],
    tiles: tuple[int, int],
) -> int:
    """``out[n, p] = clip(sum_k image[gathered(p, k)] w[n, k] + bias[n])`` for a range of pixels and of channel tiles.

    `image` is (c, h * w), `out` (n, pixels), `workspace` as in :func:`matmul_block` and (3, lanes) int32.
    """
    panel, partial, lanes = workspace
    bias, low, high = epilogue
    block = panel.shape[0] // REDUCTION
    partial[:] = 0
    for octet in range(0, values.shape[1], block):
        stop = min(values.shape[1], octet + block)
        _pixels_into_panel(image, indirection, pixels[0], octet * REDUCTION, panel, lanes)
        for tile in range(tiles[0], tiles[1]):
            at = (tile - tiles[0]) * CHANNELS
            multiply_tile(panel, values[tile, octet:stop], index[tile, octet:stop], partial[at : at + CHANNELS])
    first = tiles[0] * CHANNELS
    for channel in range(first, min(tiles[1] * CHANNELS, out.shape[0])):
        for pixel in range(pixels[0], pixels[1]):
            total = partial[channel - first, pixel - pixels[0]]
            out[channel, pixel] = _finish(total, bias[channel], low, high)
    return 0
