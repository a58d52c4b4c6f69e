"""The packed form of a float32 2:4 weight."""

import numpy as np

from sparse_rt_kernels.n2m4_f32.blocking import CHANNELS, REDUCTION
from sparse_rt_kernels.product.weight import Indexed, PackedWeight, Panels
from sparse_rt_kernels.threads.workspace import aligned_empty

__all__ = ["pack"]


def pack(kernel: str, weight: Indexed) -> PackedWeight[Panels]:
    """Interleave a canonical weight by tiles of 4 output channels.

    Parameters
    ----------
    kernel
        Name of the kernel that will read it.
    weight
        Its values are float32.

    Returns
    -------
    PackedWeight
        ``values`` is (tiles, k8, 4, 4) float32: tile, 8 reduction elements, nonzero, channel. ``index`` is
        (tiles, k8, 4) uint8: the byte of each channel. tiles = ceil(n / 4) and k8 = max(1, ceil(k / 8)); what is added
        are zeros whose index bits are zero. 4.25 bytes a nonzero: 53.1 % of the dense weight if n % 4 = k % 8 = 0.
    """
    values, index = weight.values, weight.indexes
    n, half = values.shape
    # An empty reduction becomes one of zeros, so that no loop has to know about it.
    tiles, octets = -(-n // CHANNELS), max(1, -(-2 * half // REDUCTION))
    padded_values = np.zeros((tiles * CHANNELS, octets * 4), np.float32)
    padded_values[:n, :half] = values
    padded_index = np.zeros((tiles * CHANNELS, octets), np.uint8)
    padded_index[:n, : index.shape[1]] = index

    packed_values = aligned_empty(padded_values.nbytes).view(np.float32).reshape(tiles, octets, 4, CHANNELS)
    packed_values[...] = padded_values.reshape(tiles, CHANNELS, octets, 4).transpose(0, 2, 3, 1)
    packed_index = aligned_empty(padded_index.nbytes).reshape(tiles, octets, CHANNELS)
    packed_index[...] = padded_index.reshape(tiles, CHANNELS, octets).transpose(0, 2, 1)
    return PackedWeight(kernel, n, 2 * half, Panels(packed_values, packed_index))
