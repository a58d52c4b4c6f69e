"""Clip bounds of the int8 family's epilogue."""

from typing import Any

import numpy as np

from sparse_rt_kernels.epilogue import IntegerEpilogue

__all__ = ["clip_bounds"]


def clip_bounds(epilogue: IntegerEpilogue, dtype: np.dtype[Any]) -> tuple[float, float]:
    """Return the bounds of t for outputs of `dtype`: those of the epilogue, and for bytes the output's range as well.

    Saturation after rounding is clipping to whole numbers before it, so that one clip does both.
    """
    low, high = float(epilogue.low), float(epilogue.high)
    if dtype.itemsize > 1:
        return low, high
    range_ = np.iinfo(dtype)
    least, most = float(range_.min - epilogue.zero_point), float(range_.max - epilogue.zero_point)
    return min(max(low, least), most), min(max(high, least), most)
