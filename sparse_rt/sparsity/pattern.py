"""What a sparsity pattern is, where a weight breaks one, and what goes for all of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from sparse_rt import arguments
from sparse_rt.boundary import public
from sparse_rt.errors import PatternError, message

__all__ = ["Missed", "Pattern", "Violation", "check", "density", "holds", "require", "require_axes", "require_pattern"]


@dataclass(frozen=True, slots=True)
class Violation:
    """The first place at which a weight breaks a pattern.

    Attributes
    ----------
    row
        Output channel, the first of `rows`.
    position
        Kernel position; empty for a matrix.
    first, last
        Input channels, both inclusive, counted without zero padding.
    count
        Nonzeros there.
    rows
        How many output channels the place spans.
    """

    row: int
    position: tuple[int, ...]
    first: int
    last: int
    count: int
    rows: int = 1

    def __str__(self) -> str:
        several = f"s {self.row}..{self.row + self.rows - 1}" if self.rows > 1 else f" {self.row}"
        if not self.position:
            return f"{self.count} nonzeros in row{several}, columns {self.first}..{self.last}"
        at = ", ".join(map(str, self.position))
        return (
            f"{self.count} nonzeros in output channel{several}, kernel position ({at}), "
            f"input channels {self.first}..{self.last}"
        )


@runtime_checkable
class Pattern(Protocol):
    """What the zeros of a weight obey.

    A weight is output-channel-first, (n, c) or (n, c, *kernel), any real dtype, any strides. Channels that do not
    divide into a pattern's groups count as padded with zeros. NaN is a nonzero; -0.0 is a zero. Patterns are values:
    equal ones compare equal, and have the same hash.
    """

    @property
    def name(self) -> str:
        """As users write it, for example ``"2:4"``."""
        ...

    @property
    def density(self) -> float | None:
        """The share of nonzeros that the pattern leaves at most; None where it may be any."""
        ...

    def first_violation(self, weight: NDArray[Any]) -> Violation | None:
        """Return the first place at which `weight` breaks the pattern, None if it holds.

        First means: lowest output channel, then kernel position, then input channel.

        Raises
        ------
        PatternError
            `weight` has fewer than two axes or no real dtype.
        """
        ...

    def mask(self, scores: NDArray[Any], density: float | None = None) -> NDArray[np.bool_]:
        """Return which elements stay if those of the largest scores do; of equal ones the earlier.

        Parameters
        ----------
        scores
            (n, c) or (n, c, *kernel), not negative; larger ones matter more.
        density
            The share that stays; None for the pattern's own.

        Returns
        -------
        ndarray of bool, the shape of `scores`
            A weight with zeros elsewhere holds the pattern.

        Raises
        ------
        PatternError
            The pattern does not allow that density, or needs one.
        """
        ...

    def pieces(self, weight: NDArray[Any]) -> Iterator[tuple[slice, slice]]:
        """Yield parts of a weight, output and input channels, whose masks do not depend on each other."""
        ...


class Missed(NamedTuple):
    """A pattern that a weight does not hold, and where it breaks it."""

    pattern: Pattern
    violation: Violation

    def __str__(self) -> str:
        return f"not {self.pattern.name}: {self.violation}"


@public
def check(weight: NDArray[Any], pattern: Pattern) -> Violation | None:
    """Return the first violation of `pattern`, or None if `weight` holds it.

    Parameters
    ----------
    weight
        (n, k) or (n, c, *kernel), any real dtype, any strides.
    pattern
        See :func:`sparse_rt.sparsity.parse`.

    Raises
    ------
    PatternError
        If `weight` has fewer than two axes or no real dtype.
    """
    require_pattern(pattern)
    return pattern.first_violation(weight)


@public
def holds(weight: NDArray[Any], pattern: Pattern) -> bool:
    """Return whether `weight` holds `pattern`; see `check`."""
    return check(weight, pattern) is None


@public
def require(weight: NDArray[Any], pattern: Pattern, where: str = "weight") -> None:
    """Raise unless `weight` holds `pattern`.

    Raises
    ------
    PatternError
        With the first offending coordinate, as in ``layer 'fc1' (768, 3072): expected 2:4 along k, got 3 nonzeros in
        row 17, columns 40..43. Prune it first, or leave it dense.``
    """
    violation = check(weight, pattern)
    if violation is not None:
        along = "k" if weight.ndim == 2 else "input channels"
        remedy = "Prune it first, or leave it dense."
        raise PatternError(message(f"{where} {weight.shape}", f"{pattern.name} along {along}", str(violation), remedy))


@public
def density(weight: NDArray[Any]) -> float:
    """Return nonzeros / all; 0.0 for an empty weight."""
    arguments.array("weight", weight, PatternError)
    return float(np.count_nonzero(weight)) / weight.size if weight.size else 0.0


def require_axes(weight: NDArray[Any]) -> None:
    """Raise PatternError unless `weight` is an array with output and input channels."""
    arguments.array("weight", weight, PatternError)
    if weight.ndim < 2:
        rule = "a matrix (n, k) or a kernel (K, C, ...)"
        raise PatternError(message(f"weight {weight.shape}", rule, f"{weight.ndim} axes", "Reshape it."))


def require_pattern(pattern: Pattern) -> None:
    """Raise PatternError unless `pattern` is one."""
    if not isinstance(pattern, Pattern):
        raise PatternError(message("pattern", "a Pattern", type(pattern).__name__, "Use sparsity.parse."))
