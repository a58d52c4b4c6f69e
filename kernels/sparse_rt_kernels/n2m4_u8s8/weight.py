"""The packed form of an int8 2:4 weight."""

from typing import Final

import numpy as np

from sparse_rt_kernels.product.u8s8.sizes import CHANNELS, STEP
from sparse_rt_kernels.product.weight import Indexed, PackedWeight, Panels
from sparse_rt_kernels.threads.workspace import aligned_empty

__all__ = ["MAX_K", "VALUES", "pack"]

#: Stored values of one channel and step.
VALUES: Final = STEP // 2
#: Longest reduction that cannot overflow int32: k / 2 products of at most 255 * 128.
MAX_K: Final = 2 * ((2**31 - 1) // (255 * 128)) // 4 * 4


def pack(kernel: str, weight: Indexed) -> PackedWeight[Panels]:
    """Interleave a canonical weight by blocks of 16 output channels.

    Parameters
    ----------
    kernel
        Name of the kernel that will read it.
    weight
        Its values are int8.

    Returns
    -------
    PackedWeight
        ``values`` is (blocks, steps, 16, 4) int8 and ``index`` (blocks, steps, 16) uint8 with blocks = ceil(n / 16)
        and steps = max(1, ceil(k / 8)); what is added are zeros. 80 bytes for 128 dense ones: 62.5 %.
    """
    values, index = weight.values, weight.indexes
    n, half = values.shape
    blocks, steps = -(-n // CHANNELS), max(1, -(-2 * half // STEP))
    padded_values = np.zeros((blocks * CHANNELS, steps * VALUES), np.int8)
    padded_values[:n, :half] = values
    padded_index = np.zeros((blocks * CHANNELS, steps), np.uint8)
    padded_index[:n, : index.shape[1]] = index

    packed_values = aligned_empty(padded_values.nbytes).view(np.int8).reshape(blocks, steps, CHANNELS, VALUES)
    packed_values[...] = padded_values.reshape(blocks, CHANNELS, steps, VALUES).transpose(0, 2, 1, 3)
    packed_index = aligned_empty(padded_index.nbytes).reshape(blocks, steps, CHANNELS)
    packed_index[...] = padded_index.reshape(blocks, CHANNELS, steps).transpose(0, 2, 1)
    row_sums = values.sum(axis=1, dtype=np.int32)
    return PackedWeight(kernel, n, 2 * half, Panels(packed_values, packed_index, row_sums))
