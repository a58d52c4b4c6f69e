"""2:4 weights in the target's format, and the format."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparse_rt import arguments, sparsity
from sparse_rt.boundary import public
from sparse_rt.errors import FormatError, PatternError, message
from sparse_rt.formats.n2m4.checks import check_arrays
from sparse_rt.formats.n2m4.groups import GROUP, decode_groups, encode_groups, k4_of, nibbles
from sparse_rt.formats.shape import padded_channels
from sparse_rt.formats.values import DTYPES, int8_values, require_weight, scaled_values
from sparse_rt.sparsity import Missed, Pattern
from sparse_rt.sparsity.nm import NM, TWO_FOUR

__all__ = [
    "N2M4",
    "CompressedWeight",
    "N2M4Arrays",
    "N2M4Format",
    "check",
    "decode",
    "decode_matrix",
    "encode",
    "encode_matrix",
]


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
        return padded_channels(self.shape[1], GROUP)

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
        groups_of = nibbles(self.index, positions * groups).reshape(rows, positions, groups)[:, ::-1]
        even = np.zeros((rows, 2 * self.index.shape[1]), np.uint8)
        even[:, : positions * groups] = groups_of.reshape(rows, positions * groups)
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
    channel_multiple = GROUP
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
            encoded = encode_groups(weight[part])
            if encoded is None:
                return None
            values[piece], index[part[0], first // 8 : -(-last // 8)] = encoded
        return CompressedWeight(values, index, weight.shape)

    def weight(self, tensors: Sequence[NDArray[Any]], shape: Sequence[int]) -> CompressedWeight:
        """Return the weight of stored values and index, unchecked."""
        values, index = tensors
        return CompressedWeight(values, index, tuple(shape))


N2M4 = N2M4Format()


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
    matrix = decode_groups(weight.values, weight.index)
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
    check_arrays(weight.values, weight.index, weight.shape, where)
