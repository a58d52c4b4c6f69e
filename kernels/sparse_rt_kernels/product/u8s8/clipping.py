"""Clip bounds of the int8 family's epilogue."""

from typing import Any

import numpy as np

from sparse_rt_kernels.product.epilogue import IntegerEpilogue

__all__ = ["clip_bounds"]


def clip_bounds(epilogue: IntegerEpilogue, dtype: np.dtype[Any]) -> tuple[float, float]:
    """Return the bounds of t for outputs of `dtype`: those of the epilogue, and for bytes the output's range as well.

    Saturation after rounding is clipping to whole numbers before it, so that one clip does both.
    """
    low, high = float(epilogue.low), float(epilogue.high)
    if dtype.itemsize > 1:
        return low, high
    least, most = (0, 255) if dtype.char == "B" else (-128, 127)
    least, most = least - int(epilogue.zero_point), most - int(epilogue.zero_point)
    return float(min(max(low, least), most)), float(min(max(high, least), most))
