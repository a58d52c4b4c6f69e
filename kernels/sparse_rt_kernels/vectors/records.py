"""Named tuples that kernels pass to emitters: one argument instead of many, and the same machine code."""

from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["fields_of"]

R = TypeVar("R")


def fields_of(builder: Any, kind: Callable[..., R], record: Any) -> R:
    """Return a `kind`, a named tuple, of IR values: the fields of the one that an emitter was given."""
    return kind(*(builder.extract_value(record, number) for number in range(len(record.type.elements))))
