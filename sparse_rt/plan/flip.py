"""Turn the kernel of a compressed weight by 180 degrees, without decompressing it."""

import math

import numpy as np
from numpy.typing import NDArray

from sparse_rt.formats import CompressedWeight

__all__ = ["flip_kernel"]


def flip_kernel(weight: CompressedWeight) -> CompressedWeight:
    """Return `weight` with its kernel positions in reverse order, as ConvTranspose needs it.

    A position is a run of padded_channels / 2 values and padded_channels / 4 index nibbles of each row; positions
    are moved whole, so groups stay intact.
    """
    rows, positions = weight.shape[0], math.prod(weight.kernel)
    groups = weight.padded_channels // 4
    values = weight.values.reshape(rows, positions, 2 * groups)[:, ::-1]
    nibbles = _unpack(weight.index)[:, : positions * groups].reshape(rows, positions, groups)[:, ::-1]
    return CompressedWeight(
        np.ascontiguousarray(values).reshape(weight.values.shape),
        _pack(np.ascontiguousarray(nibbles).reshape(rows, positions * groups)),
        weight.shape,
    )


def _unpack(index: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(n, bytes) -> (n, 2 * bytes) nibbles, low nibble first."""
    return np.stack([index & 15, index >> 4], axis=-1).reshape(len(index), 2 * index.shape[1])


def _pack(nibbles: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(n, groups) nibbles -> (n, ceil(groups / 2)) bytes, low nibble first, the unused high nibble zero."""
    even = np.pad(nibbles, ((0, 0), (0, nibbles.shape[1] % 2)))
    packed: NDArray[np.uint8] = even[:, 0::2] | np.left_shift(even[:, 1::2], np.uint8(4))
    return packed
