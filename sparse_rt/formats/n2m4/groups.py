"""Groups of four channels: two values and two indexes each, and the bytes of these (docs/formats.md)."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_rt import sparsity
from sparse_rt.formats.shape import padded_channels, reduction_length

__all__ = ["GROUP", "decode_groups", "encode_groups", "group_indexes", "k4_of", "nibbles"]

GROUP = 4
"""Channels of a group."""

# Nonzeros of a group as bits (bit j = e_j is nonzero) -> index nibble i0 | i1 << 2. More than two bits: not 2:4.
_NIBBLE_OF_GROUP = {
    0b0011: 0x0,
    0b0101: 0x4,
    0b1001: 0x8,
    0b0110: 0x5,
    0b1010: 0x9,
    0b1100: 0xA,
    0b0001: 0x0,
    0b0010: 0x1,
    0b0100: 0x2,
    0b1000: 0x8,
    0b0000: 0x0,
}


def _byte_tables() -> tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.bool_]]:
    """Tables over the nonzero bits of two groups (low nibble = first group).

    Returns
    -------
    index : (256,) uint8
        The index byte.
    slots : (256, 4) bool
        Which of the four stored values hold a nonzero, in order; a lone e3 takes the second slot of its group, because
        the first index cannot name it.
    excess : (256,) bool
        Whether one of the groups has more than two nonzeros.
    """
    index = np.zeros(256, np.uint8)
    slots = np.zeros((256, 4), np.bool_)
    excess = np.zeros(256, np.bool_)
    for byte in range(256):
        for group, bits in enumerate((byte & 15, byte >> 4)):
            if bits not in _NIBBLE_OF_GROUP:
                excess[byte] = True
                continue
            index[byte] |= _NIBBLE_OF_GROUP[bits] << 4 * group
            count = bits.bit_count()
            slots[byte, 2 * group] = count > 0 and bits != 0b1000
            slots[byte, 2 * group + 1] = count == 2 or bits == 0b1000
    return index, slots, excess


_INDEX_OF_BYTE, _SLOTS_OF_BYTE, _EXCESS = _byte_tables()


def k4_of(shape: Sequence[int]) -> int:
    """Return the columns of the matrix view of a dense shape."""
    return reduction_length(shape, GROUP)


def encode_groups(weight: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.uint8]] | None:
    """Return the values (n, k4 / 2) and the index bytes (n, ceil(k4 / 8)) of a weight; None if it breaks 2:4."""
    matrix = _matrix_view(weight)
    nonzero = sparsity.magnitude_bits(matrix) != 0
    # A missing second group reads as empty.
    pairs = np.packbits(nonzero, axis=1, bitorder="little")
    if _EXCESS[pairs].any():
        return None
    rows, k4 = matrix.shape
    slots = _SLOTS_OF_BYTE[pairs].reshape(rows, 4 * pairs.shape[1])[:, : k4 // 2]
    # Nonzeros and the slots that take them are in the same order, row by row and group by group.
    values = np.zeros((rows, k4 // 2), matrix.dtype)
    values[slots] = matrix[nonzero]
    return values, _INDEX_OF_BYTE[pairs]


def _matrix_view(weight: NDArray[Any]) -> NDArray[Any]:
    """Return (n, k4), C-contiguous: k over (kernel..., channel), channels zero-padded to a multiple of 4."""
    rows, channels = weight.shape[:2]
    positions = math.prod(weight.shape[2:])
    native = weight.astype(weight.dtype.newbyteorder("="), copy=False)
    if channels % GROUP == 0:
        # A matrix as it is: turning axes takes more than all else where weights are small.
        turned = native if weight.ndim == 2 else np.moveaxis(native, 1, -1)
        return np.ascontiguousarray(turned).reshape(rows, positions * channels)
    padded = np.zeros((rows, *weight.shape[2:], padded_channels(channels, GROUP)), native.dtype)
    padded[..., :channels] = np.moveaxis(native, 1, -1)
    return padded.reshape(rows, positions * padded_channels(channels, GROUP))


def group_indexes(index: NDArray[np.uint8], groups: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return i0 and i1 of each group, (n, groups) each."""
    flat = nibbles(index, groups)
    return np.bitwise_and(flat, 3, dtype=np.uint8), np.right_shift(flat, 2, dtype=np.uint8)


def nibbles(index: NDArray[np.uint8], groups: int) -> NDArray[np.uint8]:
    """Return the nibble of each group, (n, groups)."""
    both = np.empty((*index.shape, 2), np.uint8)
    both[..., 0] = index & 15
    both[..., 1] = index >> 4
    return both.reshape(len(index), 2 * index.shape[1])[:, :groups]


def decode_groups(values: NDArray[Any], index: NDArray[np.uint8]) -> NDArray[Any]:
    """Return the dense (n, k4) matrix of a checked pair, each element the sum of the values that name it."""
    rows, half = values.shape
    i0, i1 = group_indexes(index, half // 2)
    native = values.astype(values.dtype.newbyteorder("="), copy=False)
    v0, v1 = native[:, 0::2], native[:, 1::2]
    zero = native.dtype.type(0)
    dense = np.empty((rows, half // 2, 4), native.dtype)
    dense[..., 0] = np.where(i0 == 0, v0, zero)
    dense[..., 3] = np.where(i1 == 2, v1, zero)
    for element in (1, 2):
        np.add(np.where(i0 == element, v0, zero), np.where(i1 == element - 1, v1, zero), out=dense[..., element])
    return dense.reshape(rows, 2 * half)
