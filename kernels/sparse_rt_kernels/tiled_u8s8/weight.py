"""The packed forms of int8 weights, 2:4 and dense, for register tiles of any vector width."""

from typing import Any

import numpy as np

from sparse_rt_kernels.product.u8s8.sizes import CHANNELS
from sparse_rt_kernels.product.weight import PackedWeight, Panels
from sparse_rt_kernels.threads.workspace import aligned_empty

__all__ = ["pack"]


def pack(kernel: str, weight: Any, format: str) -> PackedWeight[Panels]:
    """Interleave a weight by blocks of 16 output channels, four values of a channel side by side.

    Parameters
    ----------
    kernel
        Name of the kernel that will read it.
    weight
        :class:`.weight.Indexed` or :class:`.weight.Dense`, as `format` says; its values are int8.
    format
        ``"n2m4"`` or ``"dense"``.

    Returns
    -------
    PackedWeight
        ``values`` is (blocks, steps, quads, 16, 4) int8 with one quad a step if 2:4 and two if dense; ``index`` is
        (blocks, steps, 16) uint8, or empty. blocks = ceil(n / 16), steps = max(1, ceil(k / 8)); what is added is zero.
    """
    values = weight.values
    n, stored = values.shape
    quads = 2 if format == "dense" else 1
    blocks, steps = -(-n // CHANNELS), max(1, -(-stored // (4 * quads)))
    padded = np.zeros((blocks * CHANNELS, steps * quads * 4), np.int8)
    padded[:n, :stored] = values
    packed_values = aligned_empty(padded.nbytes).view(np.int8).reshape(blocks, steps, quads, CHANNELS, 4)
    packed_values[...] = padded.reshape(blocks, CHANNELS, steps, quads, 4).transpose(0, 2, 3, 1, 4)
    kept = steps if format == "n2m4" else 0
    padded_index = np.zeros((blocks * CHANNELS, kept), np.uint8)
    if kept:
        padded_index[:n, : weight.indexes.shape[1]] = weight.indexes
    packed_index = aligned_empty(padded_index.nbytes).reshape(blocks, kept, CHANNELS)
    packed_index[...] = padded_index.reshape(blocks, CHANNELS, kept).transpose(0, 2, 1)
    k = stored if format == "dense" else 2 * stored
    panels = Panels(packed_values, packed_index, values.sum(axis=1, dtype=np.int32))
    return PackedWeight(kernel, n, k, panels)
