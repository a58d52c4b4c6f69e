"""Weights as kernels take them: the arrays of a format, and what one kernel packs them into."""

from dataclasses import dataclass, field
from typing import Any, Final, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["CHANNEL_MULTIPLE", "Dense", "Indexed", "PackedWeight", "Panels"]

#: In the k of these formats the input channels of each kernel position are padded with zeros to a multiple of this.
CHANNEL_MULTIPLE: Final = 4


class Dense(NamedTuple):
    """A weight of the format ``"dense"``.

    Attributes
    ----------
    values
        (n, k), k a multiple of 4.
    """

    values: NDArray[Any]


class Indexed(NamedTuple):
    """A weight of the format ``"n2m4"``: half of the values, and where they belong (docs/formats.md).

    Attributes
    ----------
    values
        (n, k / 2), k a multiple of 4.
    indexes
        (n, ceil(k / 8)) uint8: four 2-bit indexes a byte, first in the low bits, each in {0, 1, 2}.
    """

    values: NDArray[Any]
    indexes: NDArray[np.uint8]


class Panels(NamedTuple):
    """What most kernels pack a weight into.

    Attributes
    ----------
    values, indexes
        In tiles of the kernel's own shape.
    row_sums
        (n,) int32 sums over k of the stored values, for zero-point corrections; None for floats.
    """

    values: NDArray[Any]
    indexes: NDArray[np.uint8]
    row_sums: NDArray[np.int32] | None = None


#: A named tuple of arrays, None for one that is not there.
P = TypeVar("P", bound=tuple[Any, ...])


@dataclass(frozen=True, slots=True)
class PackedWeight(Generic[P]):
    """A weight in one kernel's own layout; only that kernel reads it.

    Attributes
    ----------
    kernel
        Name of the kernel that packed it.
    n, k
        Output channels and reduction length of the weight, as its format counts them.
    panels
        The arrays, as a named tuple of the kernel's own.
    addresses
        Of the panels, 0 for None: looked up once because kernels need them in every call.
    """

    kernel: str
    n: int
    k: int
    panels: P
    addresses: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        addresses = tuple(0 if panel is None else int(panel.ctypes.data) for panel in self.panels)
        object.__setattr__(self, "addresses", addresses)

    @property
    def nbytes(self) -> int:
        """Resident bytes."""
        return sum(panel.nbytes for panel in self.panels if panel is not None)
