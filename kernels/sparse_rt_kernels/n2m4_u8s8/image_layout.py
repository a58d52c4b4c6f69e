"""The index arithmetic of a convolution over an octet image, done once for each geometry.

An octet image is (channels / 8, rows, phases, slots, 8) bytes: 8 channels of a pixel are neighbours, and so are the
pixels that neighbouring outputs read. With a column stride of 2 a row is split into its even and its odd pixels.
"""

import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparse_rt_kernels import caches
from sparse_rt_kernels.geometry import ConvGeometry
from sparse_rt_kernels.n2m4_u8s8.image_moves import LINE_OCTETS
from sparse_rt_kernels.n2m4_u8s8.image_tile import FEW_RUNS, PIXELS
from sparse_rt_kernels.n2m4_u8s8.layout import STEP

__all__ = ["OctetImage", "octet_image_of"]

_LINE = LINE_OCTETS * STEP
#: Bytes of pixels that are turned into octets before they are put into their padded rows: a part of L1.
_TURNED_BYTES = 8 * 1024


@dataclass(frozen=True, slots=True, eq=False)
class OctetImage:
    """How the output is cut, and where the input lies while a part of it is multiplied.

    Output rows are cut into units, the fewest that fill tiles; the last unit of an image also takes what is left.

    Attributes
    ----------
    run
        Pixels of an output row that a tile reads side by side: a divisor of the row.
    height, width, out_height, out_width
        Of input and output planes. A 1x1 convolution has one long column of pixels.
    unit_rows, units
        Output rows of a unit, and units of an image.
    most_units
        Units that are staged together at most, if they belong to one image.
    capacity_rows
        Rows of the octet image.
    row_stride, row_step, reach
        For output row p, input rows from ``p * row_stride - top`` on are staged, every `row_step`-th, `reach` of them.
    top, left, padded_width
        Padding above and to the left, and columns with it.
    phases, keeps_odd
        The column stride, and whether the odd pixels are read at all.
    phase_bytes, row_bytes, plane_bytes
        From the even to the odd pixels, from row to row, from 8 channels to the next 8.
    turned_rows
        Rows that are turned into octets at a time before they are padded; 0 if nothing needs to be padded.
    most_tiles, most_few_tiles
        Of what is staged together: whole ones, and smaller ones for what they leave.
    words
        (steps,) int32: offset of each 8 reduction elements.
    """

    run: int
    height: int
    width: int
    out_height: int
    out_width: int
    unit_rows: int
    units: int
    most_units: int
    capacity_rows: int
    row_stride: int
    row_step: int
    reach: int
    top: int
    left: int
    padded_width: int
    phases: int
    keeps_odd: bool
    phase_bytes: int
    row_bytes: int
    plane_bytes: int
    turned_rows: int
    most_tiles: int
    most_few_tiles: int
    words: NDArray[np.int32]

    @property
    def turned_bytes(self) -> int:
        """Bytes of the rows that are turned at a time, and what is written and read beyond them."""
        return self.turned_rows * self.row_step * self.width * STEP + 2 * _LINE


def _covered(pixels: int, run: int) -> int:
    """Return how many pixels tiles of such runs compute, as :mod:`image_tasks` chooses them."""
    few = run * FEW_RUNS[run]
    return min(count * few + max(0, -(-(pixels - count * few) // PIXELS)) * PIXELS for count in range(5))


@functools.lru_cache(maxsize=512)
def octet_image_of(geometry: ConvGeometry) -> OctetImage | None:
    """Return the octet image of a convolution whose output is not empty; None if it needs another way."""
    g = geometry
    if g.channels % STEP or g.input_stride != (1, 1) or min(g.pads) < 0 or g.strides[1] not in (1, 2):
        return None
    pixels = g.out_height * g.out_width
    if g.is_pointwise:
        height, width, out_height, out_width = pixels, 1, pixels, 1
    else:
        height, width, out_height, out_width = g.height, g.width, g.out_height, g.out_width
    possible = [run for run in FEW_RUNS if g.is_pointwise or out_width % run == 0]
    run = min(possible, key=functools.partial(_covered, pixels), default=0)
    if run == 0 or pixels < run * FEW_RUNS[run]:
        return None
    (kernel_rows, kernel_columns), (down, phases) = g.kernel, g.strides
    # A kernel of one row reads no rows between those of its stride, and one of one column no odd columns.
    row_step = down if kernel_rows == 1 else 1
    keeps_odd = phases == 2 and (kernel_columns > 1 or g.pads[1] + g.pads[3] > 0)
    padded_width = 1 if g.is_pointwise else g.padded_width
    # Whole registers are stored: what they overwrite must be written later, or nothing.
    phase_bytes = padded_width * STEP if phases == 1 else (-(-padded_width // 2) + LINE_OCTETS) * STEP
    row_bytes = phase_bytes * (1 + keeps_odd)
    reach = (kernel_rows - 1) * g.dilations[0] + 1
    unit_rows = PIXELS // math.gcd(PIXELS, out_width)
    units = max(1, out_height // unit_rows)

    def rows_of(count: int) -> int:
        """Return the rows to stage for `count` output rows."""
        return (count - 1) * (down // row_step) + reach

    octets = g.channels // STEP
    budget = caches.level2_bytes() // 2 // max(octets * row_bytes, 1)
    fitting = [count for count in range(1, units + 1) if rows_of(count * unit_rows) <= budget]
    parts = -(-units // max(fitting, default=1))
    most_units = -(-units // parts)
    # The last part of an image takes rows that fill no unit, or its only unit is not full.
    longest = most_units * unit_rows + out_height - units * unit_rows
    capacity_rows = max(rows_of(longest), min(budget, g.batch * rows_of(out_height)))
    # Registers are stored whole; an odd number of lines, so that planes begin in different sets of a cache.
    plane_bytes = (-(-(capacity_rows * row_bytes + _LINE) // _LINE) | 1) * _LINE
    most_parts = capacity_rows // rows_of(min(unit_rows, out_height)) + 1
    # Rows between those of the stride are turned with them where registers have room.
    shared = row_step * width <= _LINE or row_step == 1
    turned_rows = max(1, _TURNED_BYTES // (STEP * row_step * width)) if shared else 1
    padded = phases > 1 or any(g.pads) or row_step > 1
    rows, columns = np.arange(kernel_rows) * g.dilations[0], np.arange(kernel_columns) * g.dilations[1]
    words = (
        rows[:, None, None] * row_bytes
        + (columns % phases * phase_bytes + columns // phases * STEP)[:, None]
        + np.arange(octets) * plane_bytes
    )
    return OctetImage(
        run,
        height,
        width,
        out_height,
        out_width,
        unit_rows,
        units,
        most_units,
        capacity_rows,
        down,
        row_step,
        reach,
        g.pads[0],
        g.pads[1],
        padded_width,
        phases,
        keeps_odd,
        phase_bytes,
        row_bytes,
        plane_bytes,
        turned_rows if padded else 0,
        capacity_rows * out_width // PIXELS + most_parts,
        4 * most_parts,
        np.ascontiguousarray(words.ravel(), np.int32),
    )
