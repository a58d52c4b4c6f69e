"""Weights cut into pieces, so that what is computed of a large one takes no second copy of it."""

from collections.abc import Iterator
from typing import Any

from numpy.typing import NDArray

__all__ = ["pieces"]

#: Elements of a piece of a weight.
_ELEMENTS = 1 << 20


def pieces(weight: NDArray[Any], group: int, rows: int = 1) -> Iterator[tuple[slice, slice]]:
    """Cut a weight into pieces of about a million elements, in the order in which they lie in memory.

    What lies in a mapped file is read once.

    Parameters
    ----------
    weight
        (n, k) or (K, C, *kernel), any strides.
    group, rows
        Pieces begin at input channels that are multiples of `group`, and at output channels that are of `rows`.

    Yields
    ------
    Output channels and input channels of the piece; one of the two axes is whole.
    """
    everything = slice(None)
    n, channels = weight.shape[:2]
    by_channel = channels > 1 and abs(weight.strides[1]) > abs(weight.strides[0])
    length, step = (channels, group) if by_channel else (n, rows)
    size = max(1, _ELEMENTS // max(1, weight.size // max(length, 1)) // step) * step
    for first in range(0, length, size):
        part = slice(first, first + size)
        yield (everything, part) if by_channel else (part, everything)
