"""The target's 2:4 format: half the values, and a 2-bit index for each (docs/formats.md).

Of every 4 contiguous input channels e0..e3 two values and two indexes in {0, 1, 2} are stored: the first value is
element i0, the second element i1 + 1. Four indexes make a byte, first in the low bits. Decoding adds: two indexes may
name one element. Source: the target's public description of its 2:4 filter rules (ATC option --sparsity).

Zero means ``== 0``: -0.0 is a zero and comes back as +0.0; NaN is a nonzero and keeps its bits.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparse_rt import arguments, sparsity
from sparse_rt.boundary import public
from sparse_rt.errors import FormatError, PatternError, message
from sparse_rt.formats.weight import (
    DTYPES,
    checked_shape,
    dtype_names,
    int8_values,
    padded_channels,
    reduction_length,
    require_weight,
    scaled_values,
)
from sparse_rt.sparsity import Missed, Pattern
from sparse_rt.sparsity.nm import NM, TWO_FOUR

__all__ = [
    "N2M4",
    "CompressedWeight",
    "N2M4Arrays",
    "N2M4Format",
    "check",
    "check_index",
    "decode",
    "decode_matrix",
    "encode",
    "encode_matrix",
    "group_indexes",
    "k4_of",
]

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


class N2M4Arrays(NamedTuple):
    """What kernels of this format pack.

    Attributes
    ----------
    values
        (n, k4 / 2), dtype of the weight, C-contiguous.
    indexes
        (n, ceil(k4 / 8)) uint8, four 2-bit indexes a byte, first in the low bits, unused high bits zero.
    """

    values: NDArray[Any]
    indexes: NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class CompressedWeight:
    """A 2:4 weight in canonical compressed form. The constructor does not validate; `check` does.

    Attributes
    ----------
    values, index
        The values and indexes of :class:`N2M4Arrays`.
    shape
        Of the dense weight, (n, c) or (n, c, *kernel). k4 = prod(kernel) * channels rounded up to a multiple of 4;
        k runs over (kernel..., channel).
    """

    values: NDArray[Any]
    index: NDArray[np.uint8]
    shape: tuple[int, ...]

    @property
    def format(self) -> "N2M4Format":
        """How it is stored."""
        return N2M4

    @property
    def pattern(self) -> NM:
        """What its zeros obey."""
        return TWO_FOUR

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the weight."""
        return self.values.dtype

    @property
    def arrays(self) -> N2M4Arrays:
        """What kernels pack."""
        return N2M4Arrays(self.values, self.index)

    @property
    def tensors(self) -> tuple[NDArray[Any], ...]:
        """What a file stores."""
        return self.values, self.index

    @property
    def kernel(self) -> tuple[int, ...]:
        """Kernel axes of the dense weight; empty for a matrix."""
        return self.shape[2:]

    @property
    def padded_channels(self) -> int:
        """Input channels rounded up to a multiple of 4."""
        return padded_channels(self.shape[1], 4)

    @property
    def k4(self) -> int:
        """Columns of the matrix view: kernel positions times padded channels."""
        return k4_of(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of values and index together."""
        return self.values.nbytes + self.index.nbytes

    @property
    def nonzeros(self) -> int:
        """How many of the values are not zero."""
        return int(np.count_nonzero(self.values))

    def check(self, where: str = "compressed weight") -> None:
        """Raise unless values, index and shape fit each other; see :func:`check`."""
        check(self, where)

    def decode(self, where: str = "compressed weight") -> NDArray[Any]:
        """Return the dense weight; see :func:`decode`."""
        return decode(self, where)

    def rotate180(self) -> "CompressedWeight":
        """Return the weight with its kernel positions in reverse order, without decompressing it.

        A position is a run of padded_channels / 2 values and padded_channels / 4 index nibbles of each row; positions
        are moved whole, so groups stay intact.
        """
        rows, positions = self.shape[0], math.prod(self.kernel)
        groups = self.padded_channels // 4
        values = self.values.reshape(rows, positions, 2 * groups)[:, ::-1]
        nibbles = _nibbles(self.index, positions * groups).reshape(rows, positions, groups)[:, ::-1]
        even = np.zeros((rows, 2 * self.index.shape[1]), np.uint8)
        even[:, : positions * groups] = nibbles.reshape(rows, positions * groups)
        index = np.bitwise_or(even[:, 0::2], np.left_shift(even[:, 1::2], 4, dtype=np.uint8), dtype=np.uint8)
        return CompressedWeight(np.ascontiguousarray(values).reshape(self.values.shape), index, self.shape)

    def scaled(self, factors: NDArray[np.float32]) -> "CompressedWeight | None":
        """Return the weight times a factor (n,) for each output channel, in float32; None if digits are lost."""
        values = scaled_values(self.values, factors[:, None])
        return None if values is None else CompressedWeight(values, self.index, self.shape)

    def as_int8(self) -> "CompressedWeight | None":
        """Return the weight as int8: itself, or a view of uint8 values below 128; else None."""
        values = int8_values(self.values)
        if values is self.values:
            return self
        return None if values is None else CompressedWeight(values, self.index, self.shape)

    def row_sums(self) -> NDArray[np.int64]:
        """Return the sum of each output channel, (n,)."""
        sums: NDArray[np.int64] = self.values.sum(axis=1, dtype=np.int64)
        return sums

    def absolute_row_sums(self) -> NDArray[np.int64]:
        """Return the sum of |w| of each output channel of an int8 weight, (n,)."""
        sums: NDArray[np.int64] = np.abs(self.values, dtype=np.int16).sum(axis=1, dtype=np.int64)
        return sums


class N2M4Format:
    """The target's 2:4 format; see :class:`sparse_rt.formats.weight.Format`."""

    name = "n2m4"
    alg = "weight_sparse_4_2"
    suffix = ""
    tensors = ("filter_compress", "compress_index")
    dtypes = DTYPES
    channel_multiple = 4
    least_channels = 5
    """The target's own gate is Cin > 4."""
    title = TWO_FOUR.name

    def stores(self, pattern: Pattern) -> bool:
        """Return whether it stores every weight that holds `pattern`."""
        return pattern == TWO_FOUR

    def find(self, weight: NDArray[Any]) -> Pattern | Missed:
        """Return 2:4, or where the weight breaks it."""
        violation = TWO_FOUR.first_violation(weight)
        return TWO_FOUR if violation is None else Missed(TWO_FOUR, violation)

    def nbytes(self, shape: Sequence[int], dtype: np.dtype[Any]) -> int:
        """Return the bytes of values and index of a weight of that shape."""
        k4 = k4_of(shape)
        return shape[0] * (k4 // 2 * dtype.itemsize + -(-k4 // 8))

    def encode(self, weight: NDArray[Any], where: str = "weight") -> CompressedWeight:
        """Compress a dense weight; see :func:`encode`."""
        return encode(weight, where)

    def encode_if_it_holds(self, weight: NDArray[Any]) -> CompressedWeight | None:
        """Return what :func:`encode` returns for a weight of a shape and dtype that it takes; None if it breaks 2:4."""
        rows, k4 = weight.shape[0], k4_of(weight.shape)
        values = np.empty((rows, k4 // 2), weight.dtype.newbyteorder("="))
        index = np.empty((rows, -(-k4 // 8)), np.uint8)
        for part in _pieces(weight):
            first, last, _ = part[1].indices(k4)
            piece = part[0], slice(first // 2, last // 2)
            values[piece], pairs, holds = _encode(weight[part])
            if not holds:
                return None
            index[part[0], first // 8 : -(-last // 8)] = _INDEX_OF_BYTE[pairs]
        return CompressedWeight(values, index, weight.shape)

    def weight(self, tensors: Sequence[NDArray[Any]], shape: Sequence[int]) -> CompressedWeight:
        """Return the weight of stored values and index, unchecked."""
        values, index = tensors
        return CompressedWeight(values, index, tuple(shape))


N2M4 = N2M4Format()


def k4_of(shape: Sequence[int]) -> int:
    """Return the columns of the matrix view of a dense shape."""
    return reduction_length(shape, 4)


@public
def encode(weight: NDArray[Any], where: str = "weight", *, prune: bool = False) -> CompressedWeight:
    """Compress a dense weight that holds 2:4 along its input channels.

    Parameters
    ----------
    weight
        (n, c) or (n, c, *kernel); int8, uint8, float16 or float32; any strides and byte order.
    where
        What errors call the weight.
    prune
        Drop all but the two largest |w| of each group first, instead of refusing.

    Raises
    ------
    PatternError
        If the weight does not hold 2:4; names the first offending coordinate.
    FormatError
        If the dtype is not one of `DTYPES`, or there are fewer than two axes.
    """
    arguments.flag(f"{where}: prune", prune, FormatError)
    require_weight(weight, where)
    if prune:
        weight = np.where(sparsity.magnitude_mask(weight, TWO_FOUR), weight, weight.dtype.type(0))
    found = N2M4.encode_if_it_holds(weight)
    if found is None:
        sparsity.require(weight, TWO_FOUR, where)
        raise PatternError(message(where, TWO_FOUR.name, "values that have changed meanwhile"))
    return found


def _pieces(weight: NDArray[Any]) -> Iterator[tuple[slice, slice]]:
    """Cut a weight into pieces that are pieces of values and index as well."""
    if weight.ndim == 2 or weight.strides[1] <= weight.strides[0]:
        yield from sparsity.pieces(weight, 8)  # an index byte describes 8 channels
    else:
        yield slice(None), slice(None)  # k runs over the kernel first: channels lie apart


def _encode(weight: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.uint8], bool]:
    """Return the values, a byte for each pair of groups that tells its nonzero elements, and whether 2:4 holds."""
    matrix = _matrix_view(weight)
    nonzero = sparsity.magnitude_bits(matrix) != 0
    # A missing second group reads as empty.
    pairs = np.packbits(nonzero, axis=1, bitorder="little")
    rows, k4 = matrix.shape
    slots = _SLOTS_OF_BYTE[pairs].reshape(rows, 4 * pairs.shape[1])[:, : k4 // 2]
    values = np.zeros((rows, k4 // 2), matrix.dtype)
    holds = not _EXCESS[pairs].any()
    if holds:
        # Nonzeros and the slots that take them are in the same order, row by row and group by group.
        values[slots] = matrix[nonzero]
    return values, pairs, holds


@public
def decode(weight: CompressedWeight, where: str = "compressed weight") -> NDArray[Any]:
    """Return the dense weight; ``decode(encode(w)) == w`` for every 2:4 w.

    Raises
    ------
    FormatError
        If values, index and shape do not fit each other, see `check`.
    """
    check(weight, where)
    rows, channels = weight.shape[:2]
    matrix = _decode(weight.values, weight.index)
    blocks = matrix.reshape(rows, math.prod(weight.kernel), weight.padded_channels)
    dense = blocks[:, :, :channels].swapaxes(1, 2)
    return np.ascontiguousarray(dense).reshape(weight.shape)


@public
def encode_matrix(matrix: NDArray[Any], where: str = "weight") -> tuple[NDArray[Any], NDArray[np.uint8]]:
    """Compress an (n, k) matrix: values (n, k4 / 2) and index (n, ceil(k4 / 8)), where k4 is k padded to 4.

    Raises
    ------
    PatternError, FormatError
        As `encode`.
    """
    arguments.array(where, matrix, FormatError)
    if matrix.ndim != 2:
        raise FormatError(message(where, "a matrix (n, k)", f"shape {matrix.shape}", "Use encode for kernels."))
    encoded = encode(matrix, where)
    return encoded.values, encoded.index


@public
def decode_matrix(values: NDArray[Any], index: NDArray[np.uint8], where: str = "compressed weight") -> NDArray[Any]:
    """Return the dense (n, k) matrix of values (n, k / 2) and index (n, ceil(k / 8)); k is a multiple of 4.

    Raises
    ------
    FormatError
        As `decode`.
    """
    arguments.array(f"{where}: values", values, FormatError)
    columns = 2 * values.shape[1] if values.ndim == 2 else 0
    return decode(CompressedWeight(values, index, (len(values) if values.ndim else 0, columns)), where)


@public
def check(weight: CompressedWeight, where: str = "compressed weight") -> None:
    """Raise unless values, index and shape fit each other and every index is valid.

    Sizes are compared before anything is allocated, so a shape that lies costs nothing. Strides are free; the
    byte order is the machine's.

    Raises
    ------
    FormatError
        Wrong dtype, wrong size, index 3 (with its coordinate), nonzero unused bits, a nonzero value that names a
        channel of the padding, two integers that share one element and overflow.
    """
    if not isinstance(weight, CompressedWeight):
        raise FormatError(message(where, "a CompressedWeight", type(weight).__name__))
    shape = checked_shape(weight.shape, where)
    values = arguments.array(f"{where}: values", weight.values, FormatError)
    if values.dtype not in DTYPES:
        raise FormatError(message(where, f"values of {dtype_names()}", str(values.dtype)))
    k4 = k4_of(shape)
    if values.shape != (shape[0], k4 // 2):
        expected = f"values {(shape[0], k4 // 2)} for the dense shape {shape}"
        raise FormatError(message(where, expected, str(values.shape), "The shape or the values are corrupt."))
    check_index(weight.index, shape[0], k4, where)
    if shape[1] % 4 and k4:
        _refuse_padding(weight, where)
    if values.dtype.kind in "iu":
        _refuse_overflow(weight, where)


def _refuse_padding(weight: CompressedWeight, where: str) -> None:
    """Raise if the last group of a kernel position stores a nonzero for a channel beyond the shape."""
    rows, channels = weight.shape[:2]
    blocks = (rows, math.prod(weight.kernel), weight.padded_channels // 4)
    i0, i1 = group_indexes(weight.index, math.prod(blocks[1:]))
    element = np.stack((i0.reshape(blocks)[..., -1], i1.reshape(blocks)[..., -1] + 1), axis=-1)
    stored = weight.values.reshape(*blocks, 2)[:, :, -1]
    outside = np.argwhere((element >= channels % 4) & (stored != 0))
    if len(outside):
        row, position, slot = (int(i) for i in outside[0])
        channel = weight.padded_channels - 4 + int(element[row, position, slot])
        got = f"a nonzero in row {row}, kernel position {position}, channel {channel}"
        raise FormatError(message(where, f"input channels 0..{channels - 1} only", got, "The weight is corrupt."))


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


def _matrix_view(weight: NDArray[Any]) -> NDArray[Any]:
    """Return (n, k4), C-contiguous: k over (kernel..., channel), channels zero-padded to a multiple of 4."""
    rows, channels = weight.shape[:2]
    positions = math.prod(weight.shape[2:])
    native = weight.astype(weight.dtype.newbyteorder("="), copy=False)
    if channels % 4 == 0:
        # A matrix as it is: turning axes takes more than all else where weights are small.
        turned = native if weight.ndim == 2 else np.moveaxis(native, 1, -1)
        return np.ascontiguousarray(turned).reshape(rows, positions * channels)
    padded = np.zeros((rows, *weight.shape[2:], padded_channels(channels, 4)), native.dtype)
    padded[..., :channels] = np.moveaxis(native, 1, -1)
    return padded.reshape(rows, positions * padded_channels(channels, 4))


def group_indexes(index: NDArray[np.uint8], groups: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return i0 and i1 of each group, (n, groups) each."""
    flat = _nibbles(index, groups)
    return np.bitwise_and(flat, 3, dtype=np.uint8), np.right_shift(flat, 2, dtype=np.uint8)


def _nibbles(index: NDArray[np.uint8], groups: int) -> NDArray[np.uint8]:
    """Return the nibble of each group, (n, groups)."""
    nibbles = np.empty((*index.shape, 2), np.uint8)
    nibbles[..., 0] = index & 15
    nibbles[..., 1] = index >> 4
    return nibbles.reshape(len(index), 2 * index.shape[1])[:, :groups]


def _decode(values: NDArray[Any], index: NDArray[np.uint8]) -> NDArray[Any]:
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


def _refuse_overflow(weight: CompressedWeight, where: str) -> None:
    """Raise if two values of one element do not fit the dtype together."""
    i0, i1 = group_indexes(weight.index, weight.values.shape[1] // 2)
    shared = i0 == i1 + 1
    if not shared.any():
        return
    v0, v1 = weight.values[:, 0::2], weight.values[:, 1::2]
    at = np.argwhere(shared & (v0 != 0) & (v1 != 0))
    rows, groups = at[:, 0], at[:, 1]
    total = v0[rows, groups].astype(np.int64) + v1[rows, groups]
    limits = np.iinfo(v0.dtype)
    outside = np.flatnonzero((total < limits.min) | (total > limits.max))
    if len(outside):
        first = outside[0]
        got = f"{total[first]} in row {rows[first]}, group {groups[first]}, whose two indexes name one element"
        raise FormatError(message(where, f"sums that fit {v0.dtype}", got, "The weight is corrupt."))
