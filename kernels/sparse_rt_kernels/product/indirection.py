"""Which input element each lane of a panel reads: the index arithmetic of a convolution, done once per panel."""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparse_rt_kernels.jit.compilation import kernel_jit
from sparse_rt_kernels.product.geometry import ConvGeometry

__all__ = ["NO_INDIRECTION", "Indirection", "indirection_in", "indirection_of", "lane_offsets", "lane_origins"]


class Indirection(NamedTuple):
    """The numbers of a :class:`ConvGeometry` that indirection needs, as Numba takes them."""

    channels: int
    height: int
    width: int
    kernel_rows: int
    kernel_columns: int
    row_stride: int
    column_stride: int
    row_dilation: int
    column_dilation: int
    top: int
    left: int
    row_stuffing: int
    column_stuffing: int
    out_pixels: int
    out_width: int


def indirection_of(geometry: ConvGeometry) -> Indirection:
    """Return the indirection of a convolution."""
    return Indirection(
        geometry.channels,
        geometry.height,
        geometry.width,
        *geometry.kernel,
        *geometry.strides,
        *geometry.dilations,
        *geometry.pads[:2],
        *geometry.input_stride,
        geometry.out_height * geometry.out_width,
        geometry.out_width,
    )


#: What a matrix product has in records of calls of both kinds.
NO_INDIRECTION: Final = indirection_of(ConvGeometry(1, 4, 1, 1, 4))


@kernel_jit
def indirection_in(record: Any) -> Indirection:
    """Return the indirection in a record of a call, which has its fields."""
    return Indirection(
        record.channels,
        record.height,
        record.width,
        record.kernel_rows,
        record.kernel_columns,
        record.row_stride,
        record.column_stride,
        record.row_dilation,
        record.column_dilation,
        record.top,
        record.left,
        record.row_stuffing,
        record.column_stuffing,
        record.out_pixels,
        record.out_width,
    )


@kernel_jit
def lane_origins(
    indirection: Indirection, first_pixel: int, rows: NDArray[np.int32], columns: NDArray[np.int32]
) -> int:
    """Fill in the stuffed, unpadded input position of kernel position (0, 0), for the pixels from `first_pixel` on.

    Lanes beyond the last pixel get a row so low that no kernel position brings it into the image. Returns how many
    lanes are pixels.
    """
    width = indirection.out_width
    lanes = min(rows.size, indirection.out_pixels - first_pixel)
    row = first_pixel // width
    column = first_pixel - row * width
    for lane in range(lanes):
        rows[lane] = row * indirection.row_stride - indirection.top
        columns[lane] = column * indirection.column_stride - indirection.left
        column += 1
        if column == width:
            column = 0
            row += 1
    for lane in range(lanes, rows.size):
        rows[lane] = -(1 << 30)
        columns[lane] = 0
    return lanes


@kernel_jit
def lane_offsets(
    indirection: Indirection,
    position: int,
    rows: NDArray[np.int32],
    columns: NDArray[np.int32],
    offsets: NDArray[np.int32],
) -> int:
    """Fill in the offset within one channel's image that each lane reads at kernel position `position`.

    -1 where it reads padding or stuffing. Returns how many lanes read the image.
    """
    kernel_row = position // indirection.kernel_columns
    down = np.int32(kernel_row * indirection.row_dilation)
    right = np.int32((position - kernel_row * indirection.kernel_columns) * indirection.column_dilation)
    height, width = np.int32(indirection.height), np.int32(indirection.width)
    inside = 0
    if indirection.row_stuffing == 1 and indirection.column_stuffing == 1:
        # No branch and no division, so that it is vectorised.
        for lane in range(offsets.size):
            row, column = rows[lane] + down, columns[lane] + right
            within = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            offsets[lane] = row * width + column if within else -1
            inside += 1 if within else 0
        return inside
    row_step, column_step = np.int32(indirection.row_stuffing), np.int32(indirection.column_stuffing)
    for lane in range(offsets.size):
        row, column = rows[lane] + down, columns[lane] + right
        offsets[lane] = -1
        if row >= 0 and column >= 0 and row % row_step == 0 and column % column_step == 0:
            row, column = row // row_step, column // column_step
            if row < height and column < width:
                offsets[lane] = row * width + column
                inside += 1
    return inside
