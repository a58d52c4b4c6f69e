"""What a format is, and a weight that is stored in one."""

import math
import operator
from collections.abc import Sequence
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from sparse_rt import arguments
from sparse_rt.errors import FormatError, message
from sparse_rt.sparsity import Missed, Pattern

__all__ = [
    "DTYPES",
    "Format",
    "SparseWeight",
    "Weight",
    "WeightFormat",
    "checked_shape",
    "dtype_names",
    "int8_values",
    "padded_channels",
    "reduction_length",
    "require_weight",
    "scaled_values",
]

DTYPES = tuple(np.dtype(t) for t in (np.int8, np.uint8, np.float16, np.float32))
"""Of the weights that can be stored."""


class WeightFormat(Protocol):
    """How a weight lies in memory, as kernels see it. Formats are values: one object each."""

    @property
    def name(self) -> str:
        """As kernels call it, for example ``"n2m4"``."""
        ...

    @property
    def channel_multiple(self) -> int:
        """To how many input channels those of a kernel position are padded with zeros."""
        ...

    def encode(self, weight: NDArray[Any], where: str = "weight") -> "Weight":
        """Return a weight (n, c) or (n, c, *kernel) of any strides and byte order in this format.

        Raises
        ------
        PatternError
            It holds no pattern that the format stores; with the first offending coordinate.
        FormatError
            Another dtype, or fewer than two axes.
        """
        ...


class Weight(Protocol):
    """A weight in one format, dense or sparse. What reads it asks this, and never how the format keeps its numbers.

    It stands for an array (n, c) or (n, c, *kernel), output channel first. Weights do not change.
    """

    @property
    def format(self) -> WeightFormat:
        """How it lies in memory."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the dense weight."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the dense weight, and of the values that are stored."""
        ...

    @property
    def arrays(self) -> Any:
        """A named tuple: what kernels of the format pack, with the sizes that its arrays do not tell."""
        ...

    def decode(self, where: str = "compressed weight") -> NDArray[Any]:
        """Return the dense weight; what is stored is checked before.

        Raises
        ------
        FormatError
            What is stored does not fit together; with the first offending coordinate.
        """
        ...

    def rotate180(self) -> Self:
        """Return the weight with its kernel positions in reverse order, as a transposed convolution needs it."""
        ...

    def scaled(self, factors: NDArray[np.float32]) -> Self | None:
        """Return the weight in float32, times a factor (n,) for each output channel.

        None if a product of finite values leaves the range of float32, or loses digits at its lower end.
        """
        ...

    def as_int8(self) -> Self | None:
        """Return the weight as int8: itself, or a view of uint8 values below 128; else None."""
        ...

    def row_sums(self) -> NDArray[np.int64]:
        """Return the sum of each output channel, (n,), of an integer weight."""
        ...

    def absolute_row_sums(self) -> NDArray[np.int64]:
        """Return the sum of |w| of each output channel, (n,), of an int8 weight."""
        ...


class SparseWeight(Weight, Protocol):
    """A weight in a format that stores a pattern's nonzeros."""

    @property
    def format(self) -> "Format":
        """How it is stored."""
        ...

    @property
    def pattern(self) -> Pattern:
        """What its zeros obey, as far as the format says it."""
        ...

    @property
    def tensors(self) -> tuple[NDArray[Any], ...]:
        """What a file stores, in the order of the format's tensors."""
        ...

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        ...

    @property
    def nonzeros(self) -> int:
        """How many of the stored values are not zero."""
        ...

    def check(self, where: str) -> None:
        """Raise unless tensors and shape fit each other; sizes are compared before anything is allocated.

        Raises
        ------
        FormatError
            With the first offending coordinate.
        """
        ...


class Format(WeightFormat, Protocol):
    """A way to store sparse weights."""

    def __hash__(self) -> int: ...

    @property
    def alg(self) -> str:
        """As compressed files call it, in the attribute ``alg``; never changes."""
        ...

    @property
    def suffix(self) -> str:
        """Ends the names of operators whose weights have this format; never changes."""
        ...

    @property
    def tensors(self) -> tuple[str, ...]:
        """The inputs of those operators that hold the weight; the first has its values, in its dtype."""
        ...

    @property
    def dtypes(self) -> tuple[np.dtype[Any], ...]:
        """Of the weights that it stores."""
        ...

    @property
    def least_channels(self) -> int:
        """How many input channels a weight must have."""
        ...

    @property
    def title(self) -> str:
        """What a message calls the weights that it stores, for example ``"2:4"``."""
        ...

    def stores(self, pattern: Pattern) -> bool:
        """Return whether it stores every weight that holds `pattern`."""
        ...

    def find(self, weight: NDArray[Any]) -> Pattern | Missed:
        """Return the most specific pattern of a weight that it stores, or where the weight breaks it."""
        ...

    def nbytes(self, shape: Sequence[int], dtype: np.dtype[Any]) -> int | None:
        """Return the bytes of a weight of that shape; None where its values decide."""
        ...

    def encode(self, weight: NDArray[Any], where: str = "weight") -> SparseWeight:
        """As :meth:`WeightFormat.encode`."""
        ...

    def encode_if_it_holds(self, weight: NDArray[Any]) -> SparseWeight | None:
        """Return what :meth:`encode` does for a shape and dtype that it takes; None if no pattern holds."""
        ...

    def weight(self, tensors: Sequence[NDArray[Any]], shape: Sequence[int]) -> SparseWeight:
        """Return the weight of what a file stores, unchecked."""
        ...


def checked_shape(shape: Sequence[int], where: str) -> tuple[int, ...]:
    """Return `shape` as plain ints.

    Raises
    ------
    FormatError
        If it is not (n, c) or (n, c, *kernel), or no array in memory could have it.
    """
    try:
        sizes = tuple(operator.index(size) for size in shape)
    except TypeError as error:
        raise FormatError(message(where, "a shape of whole numbers", repr(shape))) from error
    if len(sizes) < 2 or min(sizes) < 0:
        raise FormatError(message(where, "a shape (n, c) or (n, c, *kernel) without negative sizes", str(sizes)))
    # Zero-size axes must not hide the others: numpy multiplies those out as well.
    if math.prod(max(size, 1) for size in sizes) > 2**60:
        raise FormatError(message(where, "a shape that memory can hold", str(sizes), "The shape is corrupt."))
    return sizes


def padded_channels(channels: int, multiple: int) -> int:
    """Return a number of input channels rounded up to a multiple, as a format pads them."""
    return -(-channels // multiple) * multiple


def reduction_length(shape: Sequence[int], multiple: int) -> int:
    """Return k of a dense shape (n, c) or (n, c, *kernel): kernel positions times padded channels."""
    return math.prod(shape[2:]) * padded_channels(shape[1], multiple)


def require_weight(weight: NDArray[Any], where: str) -> None:
    """Raise FormatError unless `weight` is of a dtype and shape that can be stored."""
    arguments.array(where, weight, FormatError)
    if weight.dtype.newbyteorder("=") not in DTYPES:
        raise FormatError(message(f"{where} {weight.shape}", dtype_names(), str(weight.dtype), "Cast it first."))
    if weight.ndim < 2:
        raise FormatError(message(f"{where} {weight.shape}", "(n, c) or (n, c, *kernel)", f"{weight.ndim} axes"))


def dtype_names() -> str:
    """Return :data:`DTYPES` in words."""
    return ", ".join(str(dtype) for dtype in DTYPES[:-1]) + f" or {DTYPES[-1]}"


def scaled_values(values: NDArray[Any], factors: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """Return values times factors that broadcast to them, in float32, as :meth:`Weight.scaled` needs it.

    None if a product of finite values leaves the range of float32, or loses digits at its lower end.
    """
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        scaled: NDArray[np.float32] = np.ascontiguousarray(values.astype(np.float32, copy=False) * factors)
    if values.dtype.kind in "iu" and _fits_bytes(factors):
        return scaled
    sizes = np.abs(scaled)
    lost = (values != 0) & (factors != 0) & ~((sizes >= np.finfo(np.float32).tiny) & (sizes < np.inf))
    return None if lost.any() and np.isfinite(values).all() else scaled


def _fits_bytes(factors: NDArray[np.float32]) -> bool:
    """Return whether no product of a factor and an 8-bit integer leaves the range of float32."""
    sizes, limits = np.abs(factors), np.finfo(np.float32)
    return bool(((sizes == 0) | ((sizes >= limits.tiny) & (sizes <= limits.max / 256))).all())


def int8_values(values: NDArray[Any]) -> NDArray[np.int8] | None:
    """Return values as int8: themselves, or a view of uint8 ones below 128; else None."""
    if values.dtype == np.int8:
        return values
    if values.dtype == np.uint8 and not (values > np.iinfo(np.int8).max).any():
        return values.view(np.int8)
    return None
