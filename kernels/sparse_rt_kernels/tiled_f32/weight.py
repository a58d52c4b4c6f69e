"""The packed forms of float32 weights, 2:4 and dense."""

from typing import Any

import numpy as np

from sparse_rt_kernels.product.weight import PackedWeight, Panels
from sparse_rt_kernels.threads.workspace import aligned_empty
from sparse_rt_kernels.tiled_f32.blocking import Shape

__all__ = ["pack"]


def pack(kernel: str, weight: Any, shape: Shape) -> PackedWeight[Panels]:
    """Interleave a weight by tiles of `shape.channels` output channels.

    Parameters
    ----------
    kernel
        Name of the kernel that will read it.
    weight
        :class:`.weight.Indexed` if `shape` is sparse, else :class:`.weight.Dense`; its values are float32.

    Returns
    -------
    PackedWeight
        ``values`` is (tiles, octets, slots, channels) float32, octets = max(1, ceil(k / 8)); ``index`` is (tiles,
        octets, channels) uint8, or empty. What is added is zero.
    """
    values = weight.values
    n, stored = values.shape
    slots, channels = shape.slots, shape.channels
    tiles, octets = -(-n // channels), max(1, -(-stored // slots))
    padded = np.zeros((tiles * channels, octets * slots), np.float32)
    padded[:n, :stored] = values
    packed_values = aligned_empty(padded.nbytes).view(np.float32).reshape(tiles, octets, slots, channels)
    packed_values[...] = padded.reshape(tiles, channels, octets, slots).transpose(0, 2, 3, 1)
    kept = octets if shape.is_sparse else 0
    padded_index = np.zeros((tiles * channels, kept), np.uint8)
    if kept:
        padded_index[:n, : weight.indexes.shape[1]] = weight.indexes
    packed_index = aligned_empty(padded_index.nbytes).reshape(tiles, kept, channels)
    packed_index[...] = padded_index.reshape(tiles, channels, kept).transpose(0, 2, 1)
    return PackedWeight(kernel, n, stored * (1 + shape.is_sparse), Panels(packed_values, packed_index))
