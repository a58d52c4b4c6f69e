"""The tile of the portable int8 kernel as plain loops: for every CPU, and for Python. Lanes are activation rows."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from sparse_rt_kernels.jit.compilation import kernel_jit
from sparse_rt_kernels.product.u8s8.sizes import CHANNELS, STEP

__all__ = ["LANES", "multiply_block"]

#: Activation rows of a panel.
LANES: Final = 64


@kernel_jit
def multiply_block(
    panel: NDArray[np.int16], values: NDArray[np.int8], indexes: NDArray[np.uint8], sums: NDArray[np.int32]
) -> int:
    """``sums[c, l] = sum_s sum_j values[s, c, j] * panel[row(s, c, j), l]`` for one block of 16 channels.

    ``row(s, c, j) = 8 s + (0, 1, 4, 5)[j] + (indexes[s, c] >> 2 j & 3)``.
    """
    sums[:] = 0
    for channel in range(CHANNELS):
        for step in range(values.shape[0]):
            bits = np.intp(indexes[step, channel])
            first = step * STEP
            row0 = first + (bits & 3)
            row1 = first + 1 + (bits >> 2 & 3)
            row2 = first + 4 + (bits >> 4 & 3)
            row3 = first + 5 + (bits >> 6)
            value0 = np.int16(values[step, channel, 0])
            value1 = np.int16(values[step, channel, 1])
            value2 = np.int16(values[step, channel, 2])
            value3 = np.int16(values[step, channel, 3])
            for lane in range(LANES):
                # A product of two bytes, one of them signed, fits 16 bits: half as many vectors are multiplied.
                sums[channel, lane] += (
                    np.int32(np.int16(value0 * panel[row0, lane]))
                    + np.int16(value1 * panel[row1, lane])
                    + np.int16(value2 * panel[row2, lane])
                    + np.int16(value3 * panel[row3, lane])
                )
    return 0
