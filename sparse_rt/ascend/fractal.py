"""How stored weight and index lie in the target's memory: fractals of 16 rows (docs/formats.md).

Source: the public AscendC samples for the matmul layout; the graph compiler's weight compression for FRACTAL_Z.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_rt import arguments, formats
from sparse_rt.boundary import public
from sparse_rt.errors import FormatError, message
from sparse_rt.formats import CompressedWeight

__all__ = ["C0", "INDEX_C0", "ROWS", "to_fractal", "from_fractal", "to_fractal_z", "from_fractal_z"]

ROWS = 16
"""Output channels of a fractal."""
C0 = 32
"""Stored values of a fractal's row: 32 bytes, for 64 dense input channels."""
INDEX_C0 = 8
"""Index bytes of a fractal's row."""


def require_int8_matrix(array: NDArray[Any], where: str) -> None:
    """Raise FormatError unless `array` is what the hardware takes, a matrix of int8."""
    arguments.array(where, array, FormatError)
    if array.ndim != 2 or array.dtype != np.int8:
        raise FormatError(message(where, "an int8 matrix", f"{array.dtype} {array.shape}", "The hardware takes int8."))


@public
def to_fractal(values: NDArray[np.int8], index: NDArray[np.uint8]) -> tuple[NDArray[np.int8], NDArray[np.uint8]]:
    """Tile a matmul's stored weight: reshape (n / 16, 16, k / 64, 32), transpose (2, 0, 1, 3).

    Parameters
    ----------
    values, index
        As `compress_weight` returns them; padded with zeros to whole fractals.

    Returns
    -------
    stored : (ceil(k / 64), ceil(n / 16), 16, 32) int8
    stored_index : (ceil(k / 64), ceil(n / 16), 16, 8) uint8
        Of each fractal, at a quarter of its address.

    Raises
    ------
    FormatError
        If the arrays do not fit each other or an index is 3.
    """
    where = "to_fractal"
    require_int8_matrix(values, f"{where}: values")
    formats.check(CompressedWeight(values, index, (len(values), 2 * values.shape[1])), where)
    return _tile(values, C0), _tile(index, INDEX_C0)


@public
def from_fractal(
    stored: NDArray[np.int8], stored_index: NDArray[np.uint8], n: int, k: int
) -> tuple[NDArray[np.int8], NDArray[np.uint8]]:
    """Return values (n, k / 2) and index (n, ceil(k / 8)) from a matmul's fractals; the inverse of `to_fractal`.

    Raises
    ------
    FormatError
        If shapes do not fit n and k, the padding is not zero, or an index is 3.
    """
    where = "from_fractal"
    n, k = arguments.integer(f"{where}: n", n, 0, FormatError), arguments.integer(f"{where}: k", k, 0, FormatError)
    if k % 4:
        raise FormatError(message(where, "n and k from 0 on, k a multiple of 4", f"n={n}, k={k}"))
    blocks = (-(-k // (2 * C0)), -(-n // ROWS))
    _require_stored(stored, (*blocks, ROWS, C0), np.dtype(np.int8), f"{where}: stored")
    _require_stored(stored_index, (*blocks, ROWS, INDEX_C0), np.dtype(np.uint8), f"{where}: stored_index")
    values = _untile(stored, n, k // 2, f"{where}: stored")
    index = _untile(stored_index, n, -(-k // 8), f"{where}: stored_index")
    formats.check_index(index, n, k, where)
    return values, index


@public
def to_fractal_z(weight: CompressedWeight) -> tuple[NDArray[np.int8], NDArray[np.uint8]]:
    """Tile a convolution's stored weight as FRACTAL_Z: (C1 * KH * KW, N1, 16, 32), C1 outermost.

    A block of 32 stored values covers 64 dense channels, so C1 = ceil(ceil(c / 32) / 2) = ceil(c / 64), and
    N1 = ceil(n / 16). Known shape: (64, 3, 7, 7) gives stored (49, 4, 16, 32) and index (49, 4, 16, 8).

    Parameters
    ----------
    weight
        Of a dense int8 weight (n, c, kh, kw); any number of kernel axes is taken.

    Returns
    -------
    stored : (C1 * positions, N1, 16, 32) int8
    stored_index : (C1 * positions, N1, 16, 8) uint8

    Raises
    ------
    FormatError
        If the weight is corrupt or not int8.
    """
    where = "to_fractal_z"
    if not isinstance(weight, CompressedWeight):
        raise FormatError(message(where, "a CompressedWeight", type(weight).__name__))
    formats.check(weight, where)
    require_int8_matrix(weight.values, where)
    n, positions, groups = weight.shape[0], math.prod(weight.kernel), weight.padded_channels // 4
    c1 = _channel_blocks(weight.shape[1])
    # Groups, not bytes, are padded: a kernel position may begin in the middle of an index byte.
    nibbles = np.zeros((n, positions, c1 * 2 * INDEX_C0), np.uint8)
    nibbles[:, :, :groups] = _nibbles(weight.index, positions * groups).reshape(n, positions, groups)
    values = np.zeros((n, positions, c1 * C0), np.int8)
    values[:, :, : 2 * groups] = weight.values.reshape(n, positions, 2 * groups)
    index = _join_nibbles(nibbles)
    return _tile(_blocks_first(values, C0), C0), _tile(_blocks_first(index, INDEX_C0), INDEX_C0)


@public
def from_fractal_z(stored: NDArray[np.int8], stored_index: NDArray[np.uint8], shape: Sequence[int]) -> CompressedWeight:
    """Return the canonical compressed weight of FRACTAL_Z tiles; the inverse of `to_fractal_z`.

    Parameters
    ----------
    stored, stored_index
        As `to_fractal_z` returns them.
    shape
        Dense shape (n, c, *kernel).

    Raises
    ------
    FormatError
        If sizes do not fit the shape, the padding is not zero, or an index is 3.
    """
    where = "from_fractal_z"
    sizes = formats.checked_shape(shape, where)
    n, c, *kernel = sizes
    positions, groups, c1 = math.prod(kernel), -(-c // 4), _channel_blocks(c)
    blocks = (c1 * positions, -(-n // ROWS))
    _require_stored(stored, (*blocks, ROWS, C0), np.dtype(np.int8), f"{where}: stored")
    _require_stored(stored_index, (*blocks, ROWS, INDEX_C0), np.dtype(np.uint8), f"{where}: stored_index")
    values = _blocks_last(_untile(stored, n, blocks[0] * C0, f"{where}: stored"), positions, C0)
    index = _blocks_last(_untile(stored_index, n, blocks[0] * INDEX_C0, f"{where}: stored_index"), positions, INDEX_C0)
    nibbles = np.stack((index & 15, index >> 4), axis=-1).reshape(n, positions, c1 * 2 * INDEX_C0)
    if values[:, :, 2 * groups :].any() or nibbles[:, :, groups:].any():
        raise FormatError(message(where, f"zeros beyond input channel {4 * groups}", "a nonzero in the padding"))
    flat = np.zeros((n, positions * groups + positions * groups % 2), np.uint8)
    flat[:, : positions * groups] = nibbles[:, :, :groups].reshape(n, positions * groups)
    weight = CompressedWeight(
        values=np.ascontiguousarray(values[:, :, : 2 * groups]).reshape(n, positions * 2 * groups),
        index=_join_nibbles(flat),
        shape=sizes,
    )
    formats.check(weight, where)
    return weight


def _channel_blocks(channels: int) -> int:
    """Return C1: blocks of 32 stored values, that is of 64 dense channels."""
    return -(-channels // (2 * C0))


def _nibbles(index: NDArray[np.uint8], groups: int) -> NDArray[np.uint8]:
    """Return the (n, groups) nibbles of index bytes."""
    return np.stack((index & 15, index >> 4), axis=-1).reshape(len(index), 2 * index.shape[1])[:, :groups]


def _join_nibbles(nibbles: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the bytes of an even number of nibbles along the last axis, low nibble first."""
    return np.bitwise_or(nibbles[..., 0::2], np.left_shift(nibbles[..., 1::2], 4, dtype=np.uint8), dtype=np.uint8)


def _blocks_first(positioned: NDArray[Any], width: int) -> NDArray[Any]:
    """(n, positions, C1 * width) -> (n, C1 * positions * width): FRACTAL_Z has C1 outside the kernel position."""
    n, positions, columns = positioned.shape
    blocks = positioned.reshape(n, positions, columns // width, width)
    return blocks.swapaxes(1, 2).reshape(n, positions * columns)


def _blocks_last(matrix: NDArray[Any], positions: int, width: int) -> NDArray[Any]:
    """(n, C1 * positions * width) -> (n, positions, C1 * width); the inverse of `_blocks_first`."""
    n, columns = matrix.shape
    c1 = columns // (positions * width) if positions else 0
    return matrix.reshape(n, c1, positions, width).swapaxes(1, 2).reshape(n, positions, c1 * width)


def _tile(matrix: NDArray[Any], width: int) -> NDArray[Any]:
    """(n, columns) -> (ceil(columns / width), ceil(n / 16), 16, width), zero-padded, contiguous."""
    n, columns = matrix.shape
    row_blocks, column_blocks = -(-n // ROWS), -(-columns // width)
    padded = np.zeros((row_blocks * ROWS, column_blocks * width), matrix.dtype)
    padded[:n, :columns] = matrix
    tiles = padded.reshape(row_blocks, ROWS, column_blocks, width).transpose(2, 0, 1, 3)
    return np.ascontiguousarray(tiles)


def _untile(tiles: NDArray[Any], n: int, columns: int, where: str) -> NDArray[Any]:
    """Undo `_tile`; refuse a nonzero in the padding, which the matrix could not hold."""
    column_blocks, row_blocks, rows, width = tiles.shape
    padded = tiles.transpose(1, 2, 0, 3).reshape(row_blocks * rows, column_blocks * width)
    if padded[n:].any() or padded[:, columns:].any():
        raise FormatError(message(where, f"zeros outside ({n}, {columns})", "a nonzero in the padding"))
    return np.ascontiguousarray(padded[:n, :columns])


def _require_stored(array: NDArray[Any], shape: tuple[int, ...], dtype: np.dtype[Any], where: str) -> None:
    arguments.array(where, array, FormatError)
    if array.shape != shape or array.dtype != dtype:
        raise FormatError(message(where, f"{dtype} {shape}", f"{array.dtype} {array.shape}"))
