"""The index arithmetic of a direct convolution, done once for each geometry.

Its input is staged as (planes, rows, padded columns) words of 4 bytes: the float of one channel, or the bytes of 4.
Pixels that neighbouring outputs read are as many words apart as the column stride.
"""

import functools
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sparse_rt_kernels.between.direct_convolution.tile import PIXELS
from sparse_rt_kernels.cpu import caches
from sparse_rt_kernels.cpu.caches import LINE
from sparse_rt_kernels.product.geometry import ConvGeometry

__all__ = ["WORD", "StagedImage", "staged_image_of"]

#: Bytes of a word.
WORD: Final = 4


@dataclass(frozen=True, slots=True, eq=False)
class StagedImage:
    """How the output is cut, and where the input lies while a part of it is multiplied.

    Attributes
    ----------
    planes, padded_width
        Of the image: planes of words, and columns with padding.
    distance
        Bytes between the pixels that neighbouring outputs read.
    reach
        Rows that one output row reads, with those between.
    chunk_rows
        Output rows whose input is staged at a time.
    row_bytes, plane_bytes, image_bytes
        From row to row, from plane to plane, and of the whole image with what is stored beyond it.
    words
        (reduction words,) int32: offset of each, by kernel row, kernel column, plane.
    """

    planes: int
    padded_width: int
    distance: int
    reach: int
    chunk_rows: int
    row_bytes: int
    plane_bytes: int
    image_bytes: int
    words: NDArray[np.int32]


@functools.lru_cache(maxsize=512)
def staged_image_of(geometry: ConvGeometry, channels_per_word: int) -> StagedImage | None:
    """Return the staged image of a convolution whose output is not empty; None if it needs another way."""
    g = geometry
    if g.input_stride != (1, 1) or min(g.pads) < 0 or g.strides[1] not in (1, 2) or g.out_width < PIXELS:
        return None
    (kernel_rows, kernel_columns), (down, right) = g.kernel, g.strides
    # A kernel that skips rows or columns would stage what nobody reads.
    if g.channels == 0 or kernel_rows < down or kernel_columns < right:
        return None
    planes, row_bytes = -(-g.channels // channels_per_word), g.padded_width * WORD
    reach = (kernel_rows - 1) * g.dilations[0] + 1
    # A quarter of L2: weights and outputs pass through it, too.
    most_rows = caches.level2_bytes() // 4 // (planes * row_bytes)
    most = max(1, (most_rows - reach) // down + 1)
    chunk_rows = -(-g.out_height // -(-g.out_height // most))
    # Whole registers are stored; an odd number of lines, so that planes begin in different sets of a cache.
    staged = ((chunk_rows - 1) * down + reach) * row_bytes + LINE
    plane_bytes = (-(-staged // LINE) | 1) * LINE
    rows, columns = np.arange(kernel_rows) * g.dilations[0], np.arange(kernel_columns) * g.dilations[1]
    places = (rows[:, None] * row_bytes + columns * WORD)[..., None] + np.arange(planes) * plane_bytes
    return StagedImage(
        planes,
        g.padded_width,
        right * WORD,
        reach,
        chunk_rows,
        row_bytes,
        plane_bytes,
        planes * plane_bytes,
        np.ascontiguousarray(places.ravel(), np.int32),
    )
