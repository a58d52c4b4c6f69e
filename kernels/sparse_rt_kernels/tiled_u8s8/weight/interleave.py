"""Weights in blocks of 16 output channels: what every format's packing does."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_rt_kernels.product.u8s8.sizes import CHANNELS
from sparse_rt_kernels.threads.workspace import aligned_empty

__all__ = ["interleaved", "steps_of"]


def steps_of(stored: int, quads: int) -> int:
    """Return the steps of a channel with so many stored values, `quads` times 4 of them a step; at least one."""
    return max(1, -(-stored // (4 * quads)))


def interleaved(array: NDArray[Any], steps: int, width: int) -> NDArray[Any]:
    """Return (n, items) bytes as (blocks, steps, width / 4, 16, 4), or (blocks, steps, 16) where `width` is 1.

    `width` items of a channel belong to a step; what is added is zero. Aligned to 64 bytes.
    """
    n, items = array.shape
    blocks, size = -(-n // CHANNELS), min(width, 4)
    padded = np.zeros((blocks * CHANNELS, steps * width), array.dtype)
    padded[:n, :items] = array
    out = aligned_empty(padded.nbytes).view(array.dtype).reshape(blocks, steps, width // size, CHANNELS, size)
    out[...] = padded.reshape(blocks, CHANNELS, steps, width // size, size).transpose(0, 2, 3, 1, 4)
    return out if width > 1 else out.reshape(blocks, steps, CHANNELS)
