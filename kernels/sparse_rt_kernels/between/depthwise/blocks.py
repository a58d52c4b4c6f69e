"""Narrow planes cut into blocks of output rows whose input fits registers, and where each pixel finds its taps."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_rt_kernels.product.geometry import ConvGeometry
from sparse_rt_kernels.vectors.registers import REGISTER

__all__ = ["Blocks", "blocks_of"]


@dataclass(frozen=True, eq=False, slots=True)
class Blocks:
    """Tables for :func:`permuted_micro.convolve_permuted`; see there.

    Attributes
    ----------
    registers
        That a row of the kernel reads, 1 or 2.
    vectors
        Of 16 pixels that a block has, 2 or 4: pixel ``vectors * j + t`` is lane j of vector t.
    pixels
        Of a block, all of them neighbours; the last block may have fewer.
    places, masks, controls, stores
        The tables.
    """

    registers: int
    vectors: int
    pixels: int
    places: NDArray[np.int64]
    masks: NDArray[np.uint64]
    controls: NDArray[np.uint8]
    stores: NDArray[np.uint64]


def _rows(geometry: ConvGeometry, registers: int) -> int:
    """Return how many output rows a block can have; one byte is left for padding."""
    g = geometry
    input_rows = (registers * REGISTER - 1) // g.width
    fitting = (input_rows - 1) // g.strides[0] + 1 if input_rows else 0
    return min(REGISTER // g.out_width, g.out_height, fitting)


def _bits(flags: NDArray[Any]) -> NDArray[np.uint64]:
    """Return the last axis, a multiple of 64 flags, as the bits of uint64, the first the lowest."""
    packed = np.packbits(flags.astype(np.uint8), axis=-1, bitorder="little")
    return np.ascontiguousarray(packed).view("<u8").astype(np.uint64)


def blocks_of(geometry: ConvGeometry) -> Blocks | None:
    """Return the blocks of a plane; None if not even one output row fits, nor a part of it that divides it."""
    return _blocks_of_rows(geometry) if geometry.out_width <= REGISTER else _blocks_of_columns(geometry)


def _taps(geometry: ConvGeometry, vectors: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the pixel and the column of the kernel that each byte of the controls is for.

    Byte 4 j + i of vector t of group h is column 4 h + i of the kernel, for pixel `vectors` j + t.
    """
    group, t, j, i = np.ogrid[: -(-geometry.kernel[1] // 4), :vectors, :16, :4]
    return vectors * j + t, 4 * group + i


def _blocks_of_rows(geometry: ConvGeometry) -> Blocks | None:
    g = geometry
    registers = 2 if _rows(g, 2) > _rows(g, 1) else 1
    most = _rows(g, registers)
    if most == 0:
        return None
    count = -(-g.out_height // most)
    rows = -(-g.out_height // count)
    last = registers * REGISTER - 1
    starts = np.arange(count)[:, None] * rows * g.strides[0] - g.pads[0] + np.arange(g.kernel[0]) * g.dilations[0]
    places = np.ascontiguousarray(starts * g.width, np.int64)
    lanes = np.arange(last + 1)
    read = places[..., None] + lanes
    masks = _bits((read >= 0) & (read < g.height * g.width) & (lanes < last))
    vectors = 2 if rows * g.out_width <= REGISTER // 2 else 4
    pixel, tap = _taps(g, vectors)
    column = pixel % g.out_width * g.strides[1] - g.pads[1] + tap * g.dilations[1]
    is_inside = (pixel < rows * g.out_width) & (tap < g.kernel[1]) & (column >= 0) & (column < g.width)
    found = np.where(is_inside, pixel // g.out_width * g.strides[0] * g.width + column, last)
    left = np.minimum(rows, g.out_height - np.arange(count) * rows)
    stores = _bits(np.arange(REGISTER) < (left * g.out_width)[:, None])
    controls = np.ascontiguousarray(found.reshape(-1, REGISTER), np.uint8)
    return Blocks(registers, vectors, rows * g.out_width, places, masks, controls, stores)


def _blocks_of_columns(geometry: ConvGeometry) -> Blocks | None:
    """Return blocks that are equal parts of a row. Masks stand for the columns beyond the plane, too."""
    g = geometry
    columns = max(size for size in range(1, REGISTER + 1) if g.out_width % size == 0)
    reach = (columns - 1) * g.strides[1] + (g.kernel[1] - 1) * g.dilations[1] + 1
    registers = -(-(reach + 1) // REGISTER)
    if columns <= REGISTER // 2 or registers > 2:
        return None
    last = registers * REGISTER - 1
    lanes = np.arange(last + 1)
    firsts = np.arange(0, g.out_width, columns) * g.strides[1] - g.pads[1]
    rows = np.arange(g.out_height)[:, None] * g.strides[0] - g.pads[0] + np.arange(g.kernel[0]) * g.dilations[0]
    # Output rows, parts, rows of the kernel, lanes.
    row, first = rows[:, None, :, None], firsts[:, None, None]
    column = first + lanes
    is_inside = (row >= 0) & (row < g.height) & (column >= 0) & (column < g.width) & (lanes < last)
    places = np.ascontiguousarray((row * g.width + first)[..., 0].reshape(-1, g.kernel[0]), np.int64)
    masks = _bits(is_inside.reshape(-1, g.kernel[0], last + 1))
    pixel, tap = _taps(g, 4)
    found = np.where((pixel < columns) & (tap < g.kernel[1]), pixel * g.strides[1] + tap * g.dilations[1], last)
    stores = _bits(np.broadcast_to(np.arange(REGISTER) < columns, (len(places), REGISTER)))
    controls = np.ascontiguousarray(found.reshape(-1, REGISTER), np.uint8)
    return Blocks(registers, 4, columns, places, masks, controls, stores)
