"""What an output holds: tensors, also within sequences, maps and optionals."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["leaves"]


def leaves(value: Any) -> list[tuple[str, NDArray[Any]]] | None:
    """Return the arrays of an output, each with its place in words; None if it holds anything else.

    A tensor is one array at the place "". A sequence is its elements, a map its keys in order of their text, an
    optional that is empty an array of nothing.
    """
    if isinstance(value, np.ndarray):
        return [("", value)]
    if value is None:
        return [("none", np.zeros(0, np.bool_))]
    if isinstance(value, str | int | float | np.generic):
        return [("", np.asarray(value))]
    if isinstance(value, list | tuple):
        items = [(f"[{number}]", item) for number, item in enumerate(value)]
    elif isinstance(value, dict):
        items = [(f"[{key!r}]", value[key]) for key in sorted(value, key=repr)]
    else:
        return None
    found: list[tuple[str, NDArray[Any]]] = []
    for place, item in items:
        inner = leaves(item)
        if inner is None:
            return None
        found.extend((place + rest, array) for rest, array in inner)
    return found
