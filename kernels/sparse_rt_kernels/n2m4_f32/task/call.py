"""What the tasks of the float32 2:4 family are called with."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparse_rt_kernels.jit.compilation import kernel_jit

__all__ = ["Call", "Scratch", "Weight", "residual_at"]


class Call(NamedTuple):
    """One matmul or conv, as Numba takes it. Addresses and strides are in bytes.

    Attributes
    ----------
    x, x_stride, columns
        Address of x; for matmul the bytes from row to row, and how many columns x has.
    out, out_stride
        Address of out; for matmul the bytes from row to row.
    residual
        Address of what is added before clipping, in the form of out, perhaps out itself; 0 for nothing.
    bias, low, high
        Address of (n,) float32; clip bounds.
    n, octets
        Output channels; reduction elements / 8, rounded up.
    lanes
        Rows of the matrix, or output pixels of an image.
    is_conv
        Whether lanes are pixels of an image, gathered, or rows of a matrix, transposed.
    """

    x: int
    x_stride: int
    columns: int
    out: int
    out_stride: int
    residual: int
    bias: int
    low: np.float32
    high: np.float32
    n: int
    octets: int
    lanes: int
    is_conv: int


class Weight(NamedTuple):
    """The panels of :func:`..weight.pack`."""

    values: NDArray[np.float32]
    indexes: NDArray[np.uint8]


class Scratch(NamedTuple):
    """Scratch memory of a task.

    Attributes
    ----------
    floats
        64-byte aligned: panel blocks and sums; see :mod:`..blocking.row_lanes` and :mod:`..blocking.channel_lanes`.
    copies, lane_table
        (:data:`..panels.COPIES`, 4) and (3 * 16 * 6,).
    """

    floats: NDArray[np.float32]
    copies: NDArray[np.int64]
    lane_table: NDArray[np.int32]


@kernel_jit
def residual_at(call: Call, offset: int) -> int:
    """Return the address of the residual `offset` bytes from its start; 0 if there is none."""
    return call.residual + offset if call.residual != 0 else 0
