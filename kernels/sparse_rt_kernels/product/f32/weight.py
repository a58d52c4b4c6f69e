"""How the float32 families pack weights: octets of 8 reduction elements, each with its stored values by channels."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sparse_rt_kernels.threads.workspace import aligned_empty

__all__ = ["REDUCTION", "interleaved", "octets_of"]

#: Reduction elements of an octet; panels and packed weights are padded to it.
REDUCTION: Final = 8


def octets_of(k: int) -> int:
    """Return how many octets `k` reduction elements are; at least one, so that no loop has to know of an empty one."""
    return max(1, -(-k // REDUCTION))


def interleaved(array: NDArray[Any], channels: int, octets: int, slots: int) -> NDArray[Any]:
    """Return (n, at most octets * slots) as (tiles, octets, slots, channels), tiles = ceil(n / channels).

    What is added is zero. The result is 64-byte aligned.
    """
    n, stored = array.shape
    tiles = -(-n // channels)
    padded = np.zeros((tiles * channels, octets * slots), array.dtype)
    padded[:n, :stored] = array
    packed = aligned_empty(padded.nbytes).view(array.dtype).reshape(tiles, octets, slots, channels)
    packed[...] = padded.reshape(tiles, channels, octets, slots).transpose(0, 2, 3, 1)
    return packed
