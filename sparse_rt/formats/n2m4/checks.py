"""What a stored 2:4 weight must keep to; see docs/formats.md."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_rt import arguments
from sparse_rt.errors import FormatError, message
from sparse_rt.formats.n2m4.groups import GROUP, group_indexes, k4_of
from sparse_rt.formats.shape import checked_shape, padded_channels
from sparse_rt.formats.values import DTYPES, dtype_names

__all__ = ["check_arrays", "check_index"]


def check_arrays(values: NDArray[Any], index: NDArray[np.uint8], dense_shape: Sequence[int], where: str) -> None:
    """Raise FormatError unless values and index fit each other and the shape, and every index is valid."""
    shape = checked_shape(dense_shape, where)
    arguments.array(f"{where}: values", values, FormatError)
    if values.dtype not in DTYPES:
        raise FormatError(message(where, f"values of {dtype_names()}", str(values.dtype)))
    k4 = k4_of(shape)
    if values.shape != (shape[0], k4 // 2):
        expected = f"values {(shape[0], k4 // 2)} for the dense shape {shape}"
        raise FormatError(message(where, expected, str(values.shape), "The shape or the values are corrupt."))
    check_index(index, shape[0], k4, where)
    if shape[1] % GROUP and k4:
        _refuse_padding(values, index, shape, where)
    if values.dtype.kind in "iu":
        _refuse_overflow(values, index, where)


def check_index(index: NDArray[np.uint8], rows: int, k4: int, where: str = "compressed weight") -> None:
    """Raise unless `index` is (rows, ceil(k4 / 8)) uint8 with indexes 0..2 and zero unused high bits.

    Raises
    ------
    FormatError
        With the first offending coordinate.
    """
    arguments.array(f"{where}: index", index, FormatError)
    if index.dtype != np.uint8:
        raise FormatError(message(where, "an index of uint8", str(index.dtype), "View or cast it as uint8."))
    expected_shape = (rows, -(-k4 // 8))
    if index.shape != expected_shape:
        raise FormatError(message(where, f"an index {expected_shape} for k = {k4}", str(index.shape)))
    # Both bits of a field are set exactly where index & index >> 1 keeps the field's low bit.
    invalid = index & (index >> 1) & 0x55
    if invalid.any():
        row, byte = (int(i) for i in np.argwhere(invalid)[0])
        field = (int(invalid[row, byte]) & -int(invalid[row, byte])).bit_length() // 2
        got = f"3 in row {row}, index {4 * byte + field} (byte {byte}, 0x{int(index[row, byte]):02X})"
        raise FormatError(message(where, "every 2-bit index in {0, 1, 2}", got, "The index is corrupt."))
    if k4 % 8 and (unused := index[:, -1] >> 4).any():
        row = int(np.flatnonzero(unused)[0])
        got = f"0x{int(index[row, -1]):02X} in row {row}"
        raise FormatError(message(where, "zero in the unused high bits of a row's last index byte", got))


def _refuse_padding(values: NDArray[Any], index: NDArray[np.uint8], shape: tuple[int, ...], where: str) -> None:
    """Raise if the last group of a kernel position stores a nonzero for a channel beyond the shape."""
    rows, channels = shape[:2]
    padded = padded_channels(channels, GROUP)
    groups = (rows, math.prod(shape[2:]), padded // GROUP)
    i0, i1 = group_indexes(index, math.prod(groups[1:]))
    element = np.stack((i0.reshape(groups)[..., -1], i1.reshape(groups)[..., -1] + 1), axis=-1)
    stored = values.reshape(*groups, 2)[:, :, -1]
    outside = np.argwhere((element >= channels % GROUP) & (stored != 0))
    if len(outside):
        row, position, slot = (int(i) for i in outside[0])
        channel = padded - GROUP + int(element[row, position, slot])
        got = f"a nonzero in row {row}, kernel position {position}, channel {channel}"
        raise FormatError(message(where, f"input channels 0..{channels - 1} only", got, "The weight is corrupt."))


def _refuse_overflow(values: NDArray[Any], index: NDArray[np.uint8], where: str) -> None:
    """Raise if two values of one element do not fit the dtype together."""
    i0, i1 = group_indexes(index, values.shape[1] // 2)
    shared = i0 == i1 + 1
    if not shared.any():
        return
    v0, v1 = values[:, 0::2], values[:, 1::2]
    at = np.argwhere(shared & (v0 != 0) & (v1 != 0))
    rows, groups = at[:, 0], at[:, 1]
    total = v0[rows, groups].astype(np.int64) + v1[rows, groups]
    limits = np.iinfo(v0.dtype)
    outside = np.flatnonzero((total < limits.min) | (total > limits.max))
    if len(outside):
        first = outside[0]
        got = f"{total[first]} in row {rows[first]}, group {groups[first]}, whose two indexes name one element"
        raise FormatError(message(where, f"sums that fit {v0.dtype}", got, "The weight is corrupt."))
