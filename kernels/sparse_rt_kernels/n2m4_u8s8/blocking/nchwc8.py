"""How a convolution over NCHWc8 images is cut, and where its input lies, done once for each geometry.

While it is multiplied the input is (channels / 8, rows, phases, slots, 8) bytes: 8 channels of a pixel are neighbours,
and so are the pixels that neighbouring outputs read. With a column stride of 2 a row that is staged is split into its
even and its odd pixels.
"""

import functools
import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparse_rt_kernels.cpu import caches
from sparse_rt_kernels.n2m4_u8s8.tile.nchwc8 import FEW_RUNS, PIXELS
from sparse_rt_kernels.product.geometry import ConvGeometry
from sparse_rt_kernels.product.nchwc8 import NCHWc8
from sparse_rt_kernels.product.u8s8.nchwc8_moves import LINE_OCTETS
from sparse_rt_kernels.product.u8s8.sizes import STEP

__all__ = ["ImageBlocking", "ImageNumbers", "image_blocking"]

_LINE = LINE_OCTETS * STEP
#: Bytes of pixels that are transposed to octets before they are put into their padded rows: a part of L1.
_TRANSPOSED_BYTES = 8 * 1024


class ImageNumbers(NamedTuple):
    """What tasks know of how the output is cut, and of where the input lies while a part of it is multiplied.

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
        Rows that the image has room for.
    row_stride, row_step, reach
        For output row p, input rows from ``p * row_stride - top`` on are staged, every `row_step`-th, `reach` of them.
    top, left, padded_width
        Padding above and to the left, and columns with it.
    phases, keeps_odd
        The column stride, and whether the odd pixels are read at all.
    phase_bytes, row_bytes, plane_bytes
        From the even to the odd pixels, from row to row, from 8 channels to the next 8.
    transposed_rows
        Rows that are transposed to octets at a time before they are padded; 0 if nothing needs to be padded.
    distance
        Bytes from a pixel to the one that the neighbouring output reads.
    is_staged, image_bytes, origin
        Whether the image is staged from planes; if it lies in memory, in blocks of 8 channels, bytes from one to the
        next, and where the first output's pixels lie in it.
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
    transposed_rows: int
    distance: int
    is_staged: bool
    image_bytes: int
    origin: int


@dataclass(frozen=True, slots=True, eq=False)
class ImageBlocking:
    """How a convolution over NCHWc8 images is done.

    Attributes
    ----------
    numbers
        What tasks know of it.
    is_flat
        Whether an image is one long column of pixels, in the output, too.
    most_tiles, most_few_tiles
        Of what is staged together: whole ones, and smaller ones for what they leave.
    words
        (steps,) int32: offset of each 8 reduction elements.
    """

    numbers: ImageNumbers
    is_flat: bool
    most_tiles: int
    most_few_tiles: int
    words: NDArray[np.int32]

    @property
    def transposed_bytes(self) -> int:
        """Bytes of the rows that are transposed at a time, and what is written and read beyond them."""
        of = self.numbers
        return of.transposed_rows * of.row_step * of.width * STEP + 2 * _LINE


class _Rows(NamedTuple):
    """The rows of an image; see :class:`ImageNumbers` for the names."""

    row_bytes: int
    step: int
    phases: int
    phase_bytes: int
    keeps_odd: bool
    padded_width: int
    transposed: int

    @classmethod
    def of(cls, geometry: ConvGeometry, is_flat: bool) -> "_Rows":
        """Return the rows as they are staged from planes."""
        g, width = geometry, 1 if is_flat else geometry.width
        (kernel_rows, kernel_columns), (down, phases) = g.kernel, g.strides
        # A kernel of one row reads no rows between those of its stride, and one of one column no odd columns.
        step = down if kernel_rows == 1 else 1
        keeps_odd = phases == 2 and (kernel_columns > 1 or g.pads[1] + g.pads[3] > 0)
        padded_width = 1 if is_flat else g.padded_width
        # Whole registers are stored: what they overwrite must be written later, or nothing.
        phase_bytes = padded_width * STEP if phases == 1 else (-(-padded_width // 2) + LINE_OCTETS) * STEP
        # Rows between those of the stride are transposed with them where registers have room.
        shared = step * width <= _LINE or step == 1
        transposed = max(1, _TRANSPOSED_BYTES // (STEP * step * width)) if shared else 1
        padded = phases > 1 or any(g.pads) or step > 1
        row_bytes = phase_bytes * (1 + keeps_odd)
        return cls(row_bytes, step, phases, phase_bytes, keeps_odd, padded_width, transposed if padded else 0)

    @classmethod
    def in_place(cls, geometry: ConvGeometry, is_flat: bool, x: NCHWc8) -> "_Rows":
        """Return the rows of an input in blocks of 8 channels, all of them side by side."""
        return cls(STEP if is_flat else x.row_bytes, 1, 1, 0, False, geometry.padded_width, 0)


def _covered(pixels: int, run: int) -> int:
    """Return how many pixels tiles of such runs compute, as :mod:`.task.nchwc8` chooses them."""
    few = run * FEW_RUNS[run]
    return min(count * few + max(0, -(-(pixels - count * few) // PIXELS)) * PIXELS for count in range(5))


def _stays_near(geometry: ConvGeometry) -> bool:
    """Return whether the pixels that a tile reads for a row of the kernel stay in L1, for its next columns.

    Of blocks that are read at a column stride of 2, half of each line is for those. (Staged, it lies apart.)
    """
    lines = geometry.channels // STEP * (PIXELS * geometry.strides[1] * STEP // _LINE + FEW_RUNS[7])
    return geometry.strides[1] == 1 or geometry.kernel[1] == 1 or lines * _LINE <= caches.level1_bytes() * 3 // 4


def _run(geometry: ConvGeometry, is_flat: bool) -> int:
    """Return the pixels of a tile's run that leave least to compute twice; 0 if tiles do not fit."""
    pixels = geometry.out_height * geometry.out_width
    possible = [run for run in FEW_RUNS if is_flat or geometry.out_width % run == 0]
    run = min(possible, key=functools.partial(_covered, pixels), default=0)
    return run if run and pixels >= run * FEW_RUNS[run] else 0


class _Units(NamedTuple):
    """How output rows are cut; see :class:`ImageNumbers` for the names. `most_parts` fit into the image's rows."""

    unit_rows: int
    units: int
    most_units: int
    capacity_rows: int
    most_parts: int

    @classmethod
    def of(cls, geometry: ConvGeometry, rows: _Rows, reach: int, out_height: int, out_width: int) -> "_Units":
        """Cut an output of so many rows; half of L2 holds what is staged together."""
        distance = geometry.strides[0] // rows.step

        def rows_of(count: int) -> int:
            """Return the rows of the image for `count` output rows."""
            return (count - 1) * distance + reach

        unit_rows = PIXELS // math.gcd(PIXELS, out_width)
        units = max(1, out_height // unit_rows)
        budget = caches.level2_bytes() // 2 // max(geometry.channels // STEP * rows.row_bytes, 1)
        # The most units whose rows, as rows_of has them, are within the budget.
        fitting = min(units, ((budget - reach) // distance + 1) // unit_rows)
        parts = -(-units // max(fitting, 1))
        most_units = -(-units // parts)
        # The last part of an image takes rows that fill no unit, or its only unit is not full.
        longest = most_units * unit_rows + out_height - units * unit_rows
        capacity_rows = max(rows_of(longest), min(budget, geometry.batch * rows_of(out_height)))
        return cls(
            unit_rows, units, most_units, capacity_rows, capacity_rows // rows_of(min(unit_rows, out_height)) + 1
        )


def _words(geometry: ConvGeometry, rows: _Rows, plane_bytes: int) -> NDArray[np.int32]:
    """Return the offset of each 8 reduction elements."""
    words = np.arange(geometry.channels // STEP) * plane_bytes
    if geometry.kernel != (1, 1):
        sizes = zip(geometry.kernel, geometry.dilations, strict=True)
        down, right = (np.arange(size) * dilation for size, dilation in sizes)
        places = right % rows.phases * rows.phase_bytes + right // rows.phases * STEP
        words = down[:, None, None] * rows.row_bytes + places[:, None] + words
    return np.ascontiguousarray(words.ravel(), np.int32)


@functools.lru_cache(maxsize=512)
def image_blocking(geometry: ConvGeometry, x: NCHWc8 | None = None, y: NCHWc8 | None = None) -> ImageBlocking | None:
    """Return the blocking of a convolution whose output is not empty; None if it needs another way.

    `x` and `y` are how input and output lie in memory where they are in blocks of 8 channels; the border of `x` holds
    the padding.
    """
    g = geometry
    if g.channels % STEP or g.input_stride != (1, 1) or min(g.pads) < 0 or g.strides[1] not in (1, 2):
        return None
    if x is not None and not _stays_near(g):
        return None
    is_flat = g.is_pointwise and not any(blocks is not None and blocks.has_border for blocks in (x, y))
    run = _run(g, is_flat)
    if run == 0:
        return None
    rows = _Rows.of(g, is_flat) if x is None else _Rows.in_place(g, is_flat, x)
    pixels = g.out_height * g.out_width
    out_height, out_width = (pixels, 1) if is_flat else (g.out_height, g.out_width)
    reach = (g.kernel[0] - 1) * g.dilations[0] + 1
    units = _Units.of(g, rows, reach, out_height, out_width)
    # Registers are stored whole; an odd number of lines, so that planes begin in different sets of a cache.
    staged_plane = (-(-(units.capacity_rows * rows.row_bytes + _LINE) // _LINE) | 1) * _LINE
    plane_bytes = staged_plane if x is None else x.plane_bytes
    numbers = ImageNumbers(
        run,
        pixels if is_flat else g.height,
        1 if is_flat else g.width,
        out_height,
        out_width,
        *units[:4],
        g.strides[0],
        rows.step,
        reach,
        g.pads[0],
        g.pads[1],
        rows.padded_width,
        rows.phases,
        rows.keeps_odd,
        rows.phase_bytes,
        rows.row_bytes,
        plane_bytes,
        rows.transposed,
        STEP if x is None else g.strides[1] * STEP,
        x is None,
        0 if x is None else x.image_bytes,
        0 if x is None else x.first_pixel - g.pads[0] * x.row_bytes - g.pads[1] * STEP,
    )
    most_tiles = units.capacity_rows * out_width // PIXELS + units.most_parts
    return ImageBlocking(numbers, is_flat, most_tiles, 4 * units.most_parts, _words(g, rows, plane_bytes))
