"""Plain loops over 2:4 float32 weights that are packed by octets: what both families take for inf and NaN."""

import numpy as np
from numpy.typing import NDArray

from sparse_rt_kernels.jit.compilation import kernel_jit
from sparse_rt_kernels.jit.compiler import carray
from sparse_rt_kernels.product.f32.weight import REDUCTION
from sparse_rt_kernels.threads.workspace import as_pointer

__all__ = ["SLOTS", "add_skipping"]

#: Stored values of a channel for 8 reduction elements.
SLOTS = 4


@kernel_jit
def add_skipping(panel: NDArray[np.float32], values: int, indexes: int, sums: NDArray[np.float32]) -> int:
    """``sums[c, p] += sum_s values[s, c] * panel[row(s, c), p]``, stored zeros skipped.

    Slots 0 and 1 belong to the first 4 rows of an octet; ``row(s, c)`` is 4 (s // 2) + s % 2 + the slot's 2 index bits.

    Parameters
    ----------
    panel
        (8 * octets, lanes); may hold inf and NaN.
    values, indexes
        Addresses of (octets, 4, channels) float32 and (octets, channels) uint8.
    sums
        (channels, lanes).
    """
    octets, channels = panel.shape[0] // REDUCTION, sums.shape[0]
    weights = carray(as_pointer(values), (octets, SLOTS, channels), np.float32)
    named = carray(as_pointer(indexes), (octets, channels), np.uint8)
    for octet in range(octets):
        for slot in range(SLOTS):
            for channel in range(channels):
                weight = weights[octet, slot, channel]
                if weight != 0:
                    row = octet * REDUCTION + 4 * (slot // 2) + slot % 2 + (named[octet, channel] >> (2 * slot) & 3)
                    for lane in range(panel.shape[1]):
                        sums[channel, lane] += weight * panel[row, lane]
    return 0
