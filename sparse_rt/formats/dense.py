"""A dense weight, as dense kernels take it: a format like any other, but for the fact that no file stores it."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparse_rt.formats.shape import padded_channels
from sparse_rt.formats.values import int8_values, scaled_values

__all__ = ["DENSE", "DenseArrays", "DenseFormat", "MatrixWeight"]


class DenseArrays(NamedTuple):
    """What kernels of this format pack.

    Attributes
    ----------
    values
        (n, k), C-contiguous; k runs over (kernel..., channel), channels padded with zeros.
    """

    values: NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class MatrixWeight:
    """A dense weight as a matrix; see :class:`sparse_rt.formats.weight.Weight`.

    Attributes
    ----------
    values
        See :class:`DenseArrays`.
    shape
        Of the weight, (n, c) or (n, c, *kernel).
    """

    values: NDArray[Any]
    shape: tuple[int, ...]

    @classmethod
    def of(cls, weight: NDArray[Any], channel_multiple: int = 1) -> "MatrixWeight":
        """Lay out a weight (n, c) or (n, c, *kernel), its channels padded to a multiple. It is copied."""
        n, channels, *kernel = weight.shape
        padded = np.zeros((n, *kernel, padded_channels(channels, channel_multiple)), weight.dtype)
        padded[..., :channels] = np.moveaxis(weight, 1, -1)
        return cls(padded.reshape(n, math.prod(padded.shape[1:])), weight.shape)

    @property
    def format(self) -> "DenseFormat":
        """How it lies in memory."""
        return DENSE

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the weight."""
        return self.values.dtype

    @property
    def arrays(self) -> DenseArrays:
        """What kernels pack."""
        return DenseArrays(self.values)

    def decode(self, where: str = "weight") -> NDArray[Any]:
        """Return the weight in its own shape."""
        n, channels, *kernel = self.shape
        by_position = self.values.reshape(n, *kernel, self._padded_channels)
        return np.ascontiguousarray(np.moveaxis(by_position[..., :channels], -1, 1))

    def rotate180(self) -> "MatrixWeight":
        """Return the weight with its kernel positions in reverse order."""
        positions = self.values.reshape(len(self.values), math.prod(self.shape[2:]), self._padded_channels)
        return MatrixWeight(np.ascontiguousarray(positions[:, ::-1]).reshape(self.values.shape), self.shape)

    def scaled(self, factors: NDArray[np.float32]) -> "MatrixWeight | None":
        """Return the weight times a factor (n,) for each output channel, in float32; None if digits are lost."""
        values = scaled_values(self.values, factors[:, None])
        return None if values is None else MatrixWeight(values, self.shape)

    def as_int8(self) -> "MatrixWeight | None":
        """Return the weight as int8: itself, or a view of uint8 values below 128; else None."""
        values = int8_values(self.values)
        return None if values is None else MatrixWeight(values, self.shape)

    def row_sums(self) -> NDArray[np.int64]:
        """Return the sum of each output channel, (n,)."""
        sums: NDArray[np.int64] = self.values.sum(axis=1, dtype=np.int64)
        return sums

    def absolute_row_sums(self) -> NDArray[np.int64]:
        """Return the sum of |w| of each output channel of an int8 weight, (n,)."""
        sums: NDArray[np.int64] = np.abs(self.values, dtype=np.int16).sum(axis=1, dtype=np.int64)
        return sums

    @property
    def _padded_channels(self) -> int:
        columns: int = self.values.shape[1]
        return columns // max(1, math.prod(self.shape[2:]))


class DenseFormat:
    """What dense kernels take."""

    name = "dense"
    channel_multiple = 4

    def encode(self, weight: NDArray[Any], where: str = "weight") -> MatrixWeight:
        """Return a weight (n, c) or (n, c, *kernel) as a matrix."""
        return MatrixWeight.of(weight, self.channel_multiple)


DENSE = DenseFormat()
