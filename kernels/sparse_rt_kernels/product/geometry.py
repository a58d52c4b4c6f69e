"""The shapes of kernel calls: of a matrix product, and how a convolution maps onto one."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["ConvGeometry", "MatmulShape"]


class MatmulShape(NamedTuple):
    """The activations and outputs of a matrix product: x (m, columns), out (m, n), both with contiguous columns.

    Attributes
    ----------
    m, columns
        Of x. Fewer columns than the weight's k count as zero.
    x_dtype, out_dtype
        Of the items.
    x_stride, out_stride
        Bytes from row to row.
    """

    m: int
    columns: int
    x_dtype: np.dtype[Any]
    out_dtype: np.dtype[Any]
    x_stride: int
    out_stride: int

    @classmethod
    def of(cls, x: NDArray[Any], out: NDArray[Any]) -> "MatmulShape":
        """Return the shape of a product of these two arrays."""
        m, columns = x.shape
        return cls(m, columns, x.dtype, out.dtype, x.strides[0], out.strides[0])


@dataclass(frozen=True, slots=True)
class ConvGeometry:
    """Shape of a two-dimensional convolution; a one-dimensional one has height and kernel height 1.

    Output pixel (p, q) of image b reads input pixel (p * stride - pad + r * dilation, ...) of the input after
    zero-stuffing: `input_stride` - 1 padding values stand between neighbouring input pixels, which turns a transposed
    convolution into an ordinary one with the kernel rotated by 180 degrees (the caller does).

    Attributes
    ----------
    batch, channels, height, width
        Input shape (b, c, h, w).
    out_channels
        n.
    kernel, strides, dilations, input_stride
        (rows, columns) each.
    pads
        (top, left, bottom, right), after zero-stuffing; each may be negative (it crops).
    pad_value
        What padding and stuffing read: 0 for floats, the activation's zero point for integers.
    """

    batch: int
    channels: int
    height: int
    width: int
    out_channels: int
    kernel: tuple[int, int] = (1, 1)
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    input_stride: tuple[int, int] = (1, 1)
    pad_value: int = 0

    @property
    def padded_height(self) -> int:
        """Rows of the input after stuffing and padding."""
        stuffed = (self.height - 1) * self.input_stride[0] + 1 if self.height else 0
        return stuffed + self.pads[0] + self.pads[2]

    @property
    def padded_width(self) -> int:
        """Columns of the input after stuffing and padding."""
        stuffed = (self.width - 1) * self.input_stride[1] + 1 if self.width else 0
        return stuffed + self.pads[1] + self.pads[3]

    @property
    def out_height(self) -> int:
        """Output rows; below 1 if the kernel does not fit."""
        return (self.padded_height - (self.kernel[0] - 1) * self.dilations[0] - 1) // self.strides[0] + 1

    @property
    def out_width(self) -> int:
        """Output columns; below 1 if the kernel does not fit."""
        return (self.padded_width - (self.kernel[1] - 1) * self.dilations[1] - 1) // self.strides[1] + 1

    def padded_channels(self, multiple: int) -> int:
        """Return the input channels rounded up to a multiple, as a format of weights may pad them."""
        return -(-self.channels // multiple) * multiple

    @property
    def is_pointwise(self) -> bool:
        """Whether output pixel i reads input pixel i alone, so that no indirection is needed."""
        ones = (1, 1)
        return (self.kernel, self.strides, self.input_stride, self.pads) == (ones, ones, ones, (0, 0, 0, 0))
