"""What a format is, and a weight that is stored in one."""

from collections.abc import Sequence
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from sparse_rt.sparsity import Missed, Pattern

__all__ = ["Format", "SparseWeight", "Weight", "WeightFormat"]


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
