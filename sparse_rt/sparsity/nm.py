"""N:M: of every M contiguous input channels at most N are nonzero.

The rule is that of NVIDIA's guide for kernels (K, C, R, S): it goes for every output channel and kernel position, and
groups run along axis 1.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_rt.errors import PatternError, message
from sparse_rt.sparsity.family import Family
from sparse_rt.sparsity.magnitude import magnitude_bits
from sparse_rt.sparsity.pattern import Violation, require_axes
from sparse_rt.sparsity.piecewise import pieces

__all__ = ["FAMILY", "TWO_FOUR", "NM"]


@dataclass(frozen=True, slots=True)
class NM:
    """At most `n` nonzeros of every `m` contiguous input channels.

    Raises
    ------
    PatternError
        Unless 1 <= n <= m.
    """

    n: int
    m: int

    def __post_init__(self) -> None:
        if not 1 <= self.n <= self.m:
            raise PatternError(message(f"pattern '{self.n}:{self.m}'", "1 <= n <= m", f"n={self.n}, m={self.m}"))

    def __str__(self) -> str:
        return self.name

    @property
    def name(self) -> str:
        """As users write it."""
        return f"{self.n}:{self.m}"

    @property
    def density(self) -> float:
        """The share of nonzeros that the pattern leaves at most."""
        return self.n / self.m

    def first_violation(self, weight: NDArray[Any]) -> Violation | None:
        """Return the first group that has too many nonzeros; see :class:`sparse_rt.sparsity.pattern.Pattern`."""
        require_axes(weight)
        found = None
        for part in self.pieces(weight):
            first = self._first_in_piece(weight[part])
            if first is None:
                continue
            row, place, group, count = first
            first = row + (part[0].start or 0), place, group + (part[1].start or 0) // self.m, count
            found = first if found is None else min(found, first)
            if part[1] == slice(None):
                break  # later pieces hold later rows
        if found is None:
            return None
        row, place, group, count = found
        return Violation(
            row=row,
            position=tuple(int(i) for i in np.unravel_index(place, weight.shape[2:])) if weight.ndim > 2 else (),
            first=group * self.m,
            last=min((group + 1) * self.m, weight.shape[1]) - 1,
            count=count,
        )

    def mask(self, scores: NDArray[Any], density: float | None = None) -> NDArray[np.bool_]:
        """Keep the `n` largest scores of each group; see :class:`sparse_rt.sparsity.pattern.Pattern`.

        A last, partial group counts as zero-padded, and keeps min(n, its width) channels.
        """
        if density is not None and density != self.density:
            raise PatternError(message(f"pattern '{self}'", f"density {self.density:g}", f"{density:g}"))
        rows, channels = scores.shape[:2]
        groups, positions = -(-channels // self.m), _positions(scores)
        flat = scores.reshape(rows, channels, positions)
        padded = np.zeros((self.m, rows, groups, positions), scores.dtype)
        for element in range(min(self.m, channels)):
            part = flat[:, element :: self.m]
            padded[element, :, : part.shape[1]] = part

        # rank = how many elements of the group beat this one; each pair is compared once.
        rank = np.zeros(padded.shape, np.min_scalar_type(self.m))
        for later in range(1, self.m):
            for earlier in range(later):
                beaten = padded[later] > padded[earlier]
                rank[earlier] += beaten
                rank[later] += ~beaten
        keep = np.moveaxis(rank < self.n, 0, 2).reshape(rows, groups * self.m, positions)
        return keep[:, :channels].reshape(scores.shape)

    def pieces(self, weight: NDArray[Any]) -> Iterator[tuple[slice, slice]]:
        """Yield parts of a weight that hold whole groups."""
        return pieces(weight, self.m)

    def _first_in_piece(self, weight: NDArray[Any]) -> tuple[int, int, int, int] | None:
        """Return row, kernel position, group and nonzeros of the first group that has too many."""
        counts = _group_counts(weight, self.m)
        bad = counts > self.n
        if not bad.any():
            return None
        row = int(bad.any(axis=(1, 2)).argmax())
        place, group = (int(i) for i in np.argwhere(bad[row].T)[0])
        return row, place, group, int(counts[row, group, place])


#: What the target's hardware, and that of NVIDIA's tensor cores, takes.
TWO_FOUR = NM(2, 4)
#: Those that are looked for in a weight, the most specific first.
_KNOWN = (TWO_FOUR,)


def _parse(text: str) -> NM | None:
    found = re.fullmatch(r"\s*([0-9]{1,6})\s*:\s*([0-9]{1,6})\s*", text)
    return None if found is None else NM(int(found[1]), int(found[2]))


def _find(weight: NDArray[Any]) -> tuple[NM, ...]:
    return tuple(pattern for pattern in _KNOWN if pattern.first_violation(weight) is None)


FAMILY = Family("an N:M pattern", "'<n>:<m>' with whole numbers", str(TWO_FOUR), _parse, _find)


def _group_counts(weight: NDArray[Any], m: int) -> NDArray[Any]:
    """Return the nonzeros of each group: (n, ceil(c / m), positions)."""
    rows, channels = weight.shape[:2]
    nonzero = magnitude_bits(weight).reshape(rows, channels, _positions(weight)) != 0
    if nonzero.shape[2] == 1:
        nonzero = nonzero[:, :, 0]  # numpy's inner loop then runs over channels, not over one element
    counts = np.zeros((rows, -(-channels // m), *nonzero.shape[2:]), np.min_scalar_type(m))
    for element in range(min(m, channels)):
        part = nonzero[:, element::m]
        counts[:, : part.shape[1]] += part
    return counts.reshape(rows, -(-channels // m), _positions(weight))


def _positions(weight: NDArray[Any]) -> int:
    return int(np.prod(weight.shape[2:], dtype=np.int64))
