"""What a depthwise convolution multiplies: tables of taps, in the order in which a block reads them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_rt_kernels.between.depthwise.layout import Layout
from sparse_rt_kernels.between.depthwise.sums import Taps

__all__ = ["tap_offsets", "unrolled", "words_of_taps"]

#: Kernels, as rows and columns of weight operands, whose blocks are unrolled.
_UNROLLED = {"integer": ((3, 1), (5, 2)), "float": ((3, 3), (5, 5))}


def unrolled(kind: str, rows: int, columns: int, together: int, down: int) -> Taps:
    """Return the unrolled taps for a kernel, or those of a loop."""
    if (rows, columns) in _UNROLLED[kind]:
        return Taps(rows, columns, together, down if together > 1 else 1)
    return Taps(0, 0, 1, 1)


def tap_offsets(layout: Layout, width: int, itemsize: int) -> NDArray[np.int64]:
    """Return the bytes from a block to what each tap reads, `width` columns of the kernel being one tap."""
    g = layout.geometry
    # With rows together dilations are 1.
    rows = (layout.together - 1) * g.strides[0] + g.kernel[0]
    columns = range(0, g.kernel[1], width)
    places = [layout.offset(row * g.dilations[0], column * g.dilations[1]) for row in range(rows) for column in columns]
    return np.array(places, np.int64) * itemsize


def words_of_taps(weight: NDArray[np.int8], width: int) -> NDArray[Any]:
    """Return a weight (c, kh, kw) as (c, taps, 4) int8: `width` columns of the kernel a tap, zeros after them."""
    channels, rows, columns = weight.shape
    taps = -(-columns // width)
    padded = np.zeros((channels, rows, taps * width), np.int8)
    padded[:, :, :columns] = weight
    words = np.zeros((channels, rows * taps, 4), np.int8)
    words[:, :, :width] = padded.reshape(channels, rows * taps, width)
    return words
