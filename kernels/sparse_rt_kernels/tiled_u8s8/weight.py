"""The packed forms of int8 weights, 2:4 and dense, for register tiles of any vector width."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from sparse_rt_kernels.product.registry import PackedWeight
from sparse_rt_kernels.threads.workspace import aligned_empty

__all__ = ["CHANNELS", "STEP", "pack"]

#: Output channels of a block: one register of 16 int32 lanes, or two of 8.
CHANNELS: Final = 16
#: Reduction elements of a step: what one index byte covers.
STEP: Final = 8


def pack(kernel: str, values: NDArray[np.int8], index: NDArray[np.uint8], form: str) -> PackedWeight:
    """Interleave a weight by blocks of 16 output channels, four values of a channel side by side.

    Parameters
    ----------
    kernel
        Name of the kernel that will read it.
    values, index
        A canonical 2:4 weight, (n, k / 2) int8 and (n, ceil(k / 8)) uint8; or if `form` is ``"dense"`` (n, k) int8 and
        (n, 0). k is a multiple of 4.

    Returns
    -------
    PackedWeight
        ``values`` is (blocks, steps, quads, 16, 4) int8 with one quad a step if 2:4 and two if dense; ``index`` is
        (blocks, steps, 16) uint8, or empty. blocks = ceil(n / 16), steps = max(1, ceil(k / 8)); what is added is zero.
    """
    n, stored = values.shape
    quads = 2 if form == "dense" else 1
    blocks, steps = -(-n // CHANNELS), max(1, -(-stored // (4 * quads)))
    padded = np.zeros((blocks * CHANNELS, steps * quads * 4), np.int8)
    padded[:n, :stored] = values
    packed_values = aligned_empty(padded.nbytes).view(np.int8).reshape(blocks, steps, quads, CHANNELS, 4)
    packed_values[...] = padded.reshape(blocks, CHANNELS, steps, quads, 4).transpose(0, 2, 3, 1, 4)
    kept = steps if form == "n2m4" else 0
    padded_index = np.zeros((blocks * CHANNELS, kept), np.uint8)
    padded_index[:n, : index.shape[1]] = index
    packed_index = aligned_empty(padded_index.nbytes).reshape(blocks, kept, CHANNELS)
    packed_index[...] = padded_index.reshape(blocks, CHANNELS, kept).transpose(0, 2, 1)
    k = stored if form == "dense" else 2 * stored
    return PackedWeight(kernel, n, k, packed_values, packed_index, values.sum(axis=1, dtype=np.int32))
