"""The size of weights, as numbers that order them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_rt import arguments
from sparse_rt.boundary import public
from sparse_rt.errors import PatternError, message
from sparse_rt.sparsity.pattern import Pattern, require_axes, require_pattern

__all__ = ["magnitude_bits", "magnitude_mask"]

# Itemsize -> the unsigned integer of that size.
_UNSIGNED: dict[int, np.dtype[Any]] = {np.dtype(t).itemsize: np.dtype(t) for t in "BHIQ"}


def magnitude_bits(weight: NDArray[Any]) -> NDArray[Any]:
    """Return unsigned integers that order the elements of `weight` by |w|; 0 for exactly those that equal zero.

    A float's bits without the sign bit order floats by magnitude (IEEE 754), with -0.0 at 0 and NaN above infinity.
    Unlike abs() this is exact for the most negative integer, and fast for float16.

    Raises
    ------
    PatternError
        If the dtype is not boolean, integer, or a float of 16, 32 or 64 bits.
    """
    dtype = arguments.array("weight", weight, PatternError).dtype
    if dtype.kind not in "biuf" or dtype.itemsize not in _UNSIGNED:
        expected = "a boolean, integer, float16, float32 or float64 dtype"
        raise PatternError(message("weight", expected, str(dtype), "Cast it first."))
    unsigned = _UNSIGNED[dtype.itemsize]
    native = np.ascontiguousarray(weight, dtype=dtype.newbyteorder("="))
    unsigned_view: NDArray[Any] = (np.abs(native) if dtype.kind == "i" else native).view(unsigned)
    if dtype.kind != "f":
        return unsigned_view
    without_sign: NDArray[Any] = unsigned_view & unsigned.type(np.iinfo(unsigned).max >> 1)
    return without_sign


@public
def magnitude_mask(weight: NDArray[Any], pattern: Pattern, density: float | None = None) -> NDArray[np.bool_]:
    """Return the mask of `pattern` that keeps the largest |w|.

    Of equal magnitudes the earlier is kept, so that the mask is the same everywhere; NaN outranks infinity and stays
    visible.

    Parameters
    ----------
    weight
        (n, c) or (n, c, *kernel), any real dtype.
    pattern
        See :func:`sparse_rt.sparsity.parse`.
    density
        The share that stays; None for the pattern's own.

    Returns
    -------
    ndarray of bool, the shape of `weight`
        True where the weight is kept.

    Raises
    ------
    PatternError
        If `weight` has fewer than two axes or no real dtype, or the pattern does not allow that density.
    """
    require_pattern(pattern)
    require_axes(weight)
    mask = np.empty(weight.shape, np.bool_)
    for part in pattern.pieces(weight):
        mask[part] = pattern.mask(magnitude_bits(weight[part]), density)
    return mask
