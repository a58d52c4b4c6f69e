"""Rows of float32 cut into pieces whose input fits two registers, and where each pixel finds its taps there."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparse_rt_kernels.product.geometry import ConvGeometry
from sparse_rt_kernels.vectors.registers import LANES

__all__ = ["Pieces", "pieces_of"]

#: The last lane of two registers is never loaded: it is the padding.
_PADDING = 2 * LANES - 1


@dataclass(frozen=True, eq=False, slots=True)
class Pieces:
    """Tables for :func:`float_permuted_micro.convolve_pieces`; see there.

    A piece is up to 15 pixels of one output row, or up to 8 of each of two rows, each of which has a register.

    Attributes
    ----------
    places, masks, controls, outs, stores
        The tables.
    """

    places: NDArray[np.int64]
    masks: NDArray[np.uint16]
    controls: NDArray[np.int32]
    outs: NDArray[np.int64]
    stores: NDArray[np.uint16]


def _registers(
    g: ConvGeometry, row: int, rows: int, column: int, columns: int
) -> tuple[list[tuple[int, int, int]], list[list[int]]]:
    """Return for pixels [column, column + columns) of `rows` output rows what is loaded and, a tap, the lanes found.

    Loaded are two registers for each row of the kernel: input row, first column, and how many columns.
    """
    first = max(0, column * g.strides[1] - g.pads[1])
    last = min(g.width, (column + columns - 1) * g.strides[1] - g.pads[1] + (g.kernel[1] - 1) * g.dilations[1] + 1)
    width = max(0, last - first)
    loads = []
    for tap in range(g.kernel[0]):
        y = row * g.strides[0] - g.pads[0] + tap * g.dilations[0]
        below = y + g.strides[0]
        lower = (below, first, width if rows == 2 else 0) if rows == 2 else (y, first + LANES, width - LANES)
        loads += [(y, first, min(width, LANES)), lower]
    lanes = []
    for tap in range(g.kernel[1]):
        found = [_PADDING] * LANES
        for pixel in range(rows * columns):
            x = (column + pixel % columns) * g.strides[1] - g.pads[1] + tap * g.dilations[1]
            if 0 <= x < g.width:
                found[pixel] = x - first + pixel // columns * LANES
        lanes.append(found)
    return loads, lanes


def _pixels(g: ConvGeometry) -> tuple[int, int]:
    """Return how many output rows and columns a piece has; 0 columns if the kernel is too wide."""
    if g.width < LANES and g.out_width <= LANES // 2:
        return 2, g.out_width
    fitting = (_PADDING - (g.kernel[1] - 1) * g.dilations[1] - 1) // g.strides[1] + 1
    most = min(LANES, max(0, fitting))
    return 1, -(-g.out_width // -(-g.out_width // most)) if most else 0


def pieces_of(geometry: ConvGeometry) -> Pieces | None:
    """Return the pieces of a plane; None if not even one pixel fits."""
    g = geometry
    rows, columns = _pixels(g)
    if columns == 0:
        return None
    places, masks, controls, outs, stores = [], [], [], [], []
    for row in range(0, g.out_height, rows):
        for column in range(0, g.out_width, columns):
            wide = min(columns, g.out_width - column)
            tall = min(rows, g.out_height - row)
            loads, lanes = _registers(g, row, rows, column, wide)
            places += [y * g.width + x for y, x, _ in loads]
            masks += [(1 << max(0, count)) - 1 if 0 <= y < g.height else 0 for y, _, count in loads]
            controls += lanes
            outs.append(row * g.out_width + column)
            stores.append((1 << (tall * wide)) - 1)
    return Pieces(
        np.array(places, np.int64) * 4,
        np.array(masks, np.uint16),
        np.array(controls, np.int32),
        np.array(outs, np.int64) * 4,
        np.array(stores, np.uint16),
    )
