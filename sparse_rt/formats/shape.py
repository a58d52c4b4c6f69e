"""Shapes of weights: (n, c) or (n, c, *kernel), output channels first."""

import math
import operator
from collections.abc import Sequence

from sparse_rt.errors import FormatError, message

__all__ = ["checked_shape", "padded_channels", "reduction_length"]


def checked_shape(shape: Sequence[int], where: str) -> tuple[int, ...]:
    """Return `shape` as plain ints.

    Raises
    ------
    FormatError
        If it is not (n, c) or (n, c, *kernel), or no array in memory could have it.
    """
    try:
        sizes = tuple(operator.index(size) for size in shape)
    except TypeError as error:
        raise FormatError(message(where, "a shape of whole numbers", repr(shape))) from error
    if len(sizes) < 2 or min(sizes) < 0:
        raise FormatError(message(where, "a shape (n, c) or (n, c, *kernel) without negative sizes", str(sizes)))
    # Zero-size axes must not hide the others: numpy multiplies those out as well.
    if math.prod(max(size, 1) for size in sizes) > 2**60:
        raise FormatError(message(where, "a shape that memory can hold", str(sizes), "The shape is corrupt."))
    return sizes


def padded_channels(channels: int, multiple: int) -> int:
    """Return a number of input channels rounded up to a multiple, as a format pads them."""
    return -(-channels // multiple) * multiple


def reduction_length(shape: Sequence[int], multiple: int) -> int:
    """Return k of a dense shape (n, c) or (n, c, *kernel): kernel positions times padded channels."""
    return math.prod(shape[2:]) * padded_channels(shape[1], multiple)
