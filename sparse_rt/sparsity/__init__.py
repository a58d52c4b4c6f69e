"""Sparsity patterns: what the zeros of a weight obey.

A family of patterns is a file of its own and a line in :data:`FAMILIES`.
"""

import re
from typing import Any

from numpy.typing import NDArray

from sparse_rt.boundary import public
from sparse_rt.errors import PatternError, message
from sparse_rt.sparsity import nm
from sparse_rt.sparsity.family import Family
from sparse_rt.sparsity.magnitude import magnitude_bits, magnitude_mask
from sparse_rt.sparsity.pattern import Missed, Pattern, Violation, check, density, holds, require
from sparse_rt.sparsity.piecewise import pieces

__all__ = [
    "FAMILIES",
    "Family",
    "Missed",
    "Pattern",
    "Violation",
    "check",
    "density",
    "find",
    "find_all",
    "holds",
    "magnitude_bits",
    "magnitude_mask",
    "parse",
    "pieces",
    "require",
]

FAMILIES: dict[str, Family] = {"N:M": nm.FAMILY}
"""The families by name, the most specific patterns first."""


@public
def parse(text: str) -> Pattern:
    """Return the pattern that `text` names, for example "2:4".

    Raises
    ------
    PatternError
        If `text` names no pattern, or a block or unstructured pattern ("4x1", "16x4", "unstructured"), which are not
        implemented.
    """
    families = FAMILIES.values()
    example = next(iter(families)).example
    if not isinstance(text, str):
        raise PatternError(message("pattern", f"a text such as '{example}'", type(text).__name__))
    for family in families:
        pattern = family.parse(text)
        if pattern is not None:
            return pattern
    where = f"pattern {text!r}"
    if re.fullmatch(r"\s*[0-9]+x[0-9]+\s*", text) or text.strip() == "unstructured":
        title = " or ".join(family.title for family in families)
        remedy = f"Use {title} such as '{example}'."
        raise PatternError(message(where, title, "a pattern that is not implemented", remedy))
    spelling = " or ".join(family.spelling for family in families)
    raise PatternError(message(where, spelling, "something else", f"Write for example '{example}'."))


@public
def find_all(weight: NDArray[Any]) -> tuple[Pattern, ...]:
    """Return every pattern that `weight` holds, of those that are looked for, the most specific first.

    Raises
    ------
    PatternError
        If `weight` has fewer than two axes or no real dtype.
    """
    return tuple(pattern for family in FAMILIES.values() for pattern in family.find(weight))


@public
def find(weight: NDArray[Any]) -> Pattern | None:
    """Return the most specific pattern that `weight` holds, of those that are looked for, or None.

    Raises
    ------
    PatternError
        If `weight` has fewer than two axes or no real dtype.
    """
    return next((found for family in FAMILIES.values() for found in family.find(weight)), None)
