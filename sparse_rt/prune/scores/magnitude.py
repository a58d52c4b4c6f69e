"""Large weights matter."""

from typing import Any

from numpy.typing import NDArray

from sparse_rt.sparsity import magnitude_bits

__all__ = ["magnitude"]


def magnitude(weight: NDArray[Any]) -> NDArray[Any]:
    """Return numbers that order the elements of `weight`, any shape and real dtype, by |w|.

    They are exact for the most negative integer, and NaN outranks infinity, so that it stays visible.

    Raises
    ------
    PatternError
        If the dtype is not boolean, integer, or a float of 16, 32 or 64 bits.
    """
    return magnitude_bits(weight)
