"""What becomes of the sums of float32 products: bias, residual, clip."""

from typing import Any, NamedTuple

import numpy as np

from sparse_rt_kernels.vectors import simd

__all__ = ["Ending", "clipped"]


class Ending(NamedTuple):
    """``out[i, j] = clip(sums[i, j] + bias + residual[i, j], low, high)`` for a block of sums; a NaN stays NaN.

    Attributes
    ----------
    bias
        Address of float32, one for each channel of the block.
    low, high
        Bounds.
    residual
        Address of what is added before clipping, in the form of out, perhaps out itself; 0 for nothing.
    out, stride
        Address of the first output, and bytes from row to row. May hold NaN on entry.
    rows, columns
        How many of the block are stored.
    """

    bias: int
    low: np.float32
    high: np.float32
    residual: int
    out: int
    stride: int
    rows: int
    columns: int


def clipped(builder: Any, value: Any, low: Any, high: Any) -> Any:
    """Return `value` within bounds, vectors all three; larger and smaller return their second operand if it is NaN."""
    return simd.smaller(builder, high, simd.larger(builder, low, value))
