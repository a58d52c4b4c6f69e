"""What the macro-kernel of the float32 2:4 family is called with."""

from typing import NamedTuple

__all__ = ["Call"]


class Call(NamedTuple):
    """One matmul or conv, as Numba takes it. Addresses and strides are in bytes.

    Attributes
    ----------
    x, x_stride, columns
        Address of x; for matmul the bytes from row to row, and how many columns x has.
    out, out_stride
        Address of out; for matmul the bytes from row to row.
    bias
        Address of (n,) float32.
    n, octets
        Output channels; reduction elements / 8, rounded up.
    images, lanes
        How many matrices of how many lanes: 1 and m, or batch and output pixels.
    first_lane, last_lane
        The lanes to compute, of each image.
    panel_bytes
        Of a block of packed lanes; see :attr:`.shares.Share.panel_bytes`.
    is_conv
        Whether lanes are pixels of an image, gathered, or rows of a matrix, transposed.
    residual
        Address of what is added before clipping, in the form of out, perhaps out itself; 0 for nothing.
    rest
        How many pixels after the last lane are computed beside the last panel, because they fill no vector: at most 4.
    """

    x: int
    x_stride: int
    columns: int
    out: int
    out_stride: int
    bias: int
    n: int
    octets: int
    images: int
    lanes: int
    first_lane: int
    last_lane: int
    panel_bytes: int
    is_conv: int
    residual: int
    rest: int
