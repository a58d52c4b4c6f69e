"""A family of patterns: how its names are written, and which of it a weight holds."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from sparse_rt.sparsity.pattern import Pattern

__all__ = ["Family"]


@dataclass(frozen=True)
class Family:
    """Patterns of one kind.

    Attributes
    ----------
    title, spelling, example
        For messages: "an N:M pattern", how a name is written, and one of them.
    parse
        Returns the pattern that a text names, None if it names none of this family. Raises PatternError for one of
        its names that no pattern can have.
    find
        Returns the patterns of this family that a weight holds, of those that are looked for, the most specific first.
    """

    title: str
    spelling: str
    example: str
    parse: Callable[[str], Pattern | None]
    find: Callable[[NDArray[Any]], tuple[Pattern, ...]]
