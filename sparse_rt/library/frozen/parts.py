"""Which calls a node is prepared for: those of the shapes that it has met, or parts of which any such call consists.

The rows of a matrix product, and the images of a convolution, do not depend on each other: where their number is open,
calls for 1, 2, 4, ... of them do for any number. That they are independent is not believed but tried.
"""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sparse_rt_kernels.threads.pool import ThreadPool

from sparse_rt.library.node_segment import Refusal
from sparse_rt.plan.bind.segment import Segment

__all__ = ["Parts", "Shapes", "parts_of"]

Shapes = tuple[tuple[int, ...], ...]

#: The fewest units that the largest part has.
_FEWEST_UNITS: Final = 8
_MOST_UNITS: Final = 1024
#: How far sums of floats may differ that are added in another order, of the largest of them.
_TOLERANCE: Final = 1e-4


class Parts(NamedTuple):
    """The calls of a node.

    Attributes
    ----------
    shapes
        Of the inputs of each.
    leading
        How many sizes count units; 0 where each call is for its own shapes only.
    has_units
        Of each input, whether these are sizes of it.
    """

    shapes: tuple[Shapes, ...]
    leading: int = 0
    has_units: tuple[bool, ...] = ()


def parts_of(segment: Segment, met: Sequence[Shapes], dtypes: Sequence[np.dtype[Any]]) -> Parts | Refusal:
    """Return the calls that a node is prepared for.

    Parameters
    ----------
    segment
        What runs it.
    met
        The shapes that its inputs had, the first ones first.
    dtypes
        Of its inputs.
    """
    if not met:
        return Refusal("no run reached it")
    if len(met) == 1:
        return Parts(tuple(met))
    leading, has_units = _leading(met)
    if leading is None:
        return Refusal("its inputs have sizes that are open, other than leading ones; fix them")
    if not _are_independent(segment, met[0], leading, has_units, dtypes):
        return Refusal("the number of its rows is open, and each depends on the others; fix that number")
    numbers = [_units(shapes, leading, has_units) for shapes in met]
    most = min(_MOST_UNITS, max(_FEWEST_UNITS, *numbers))
    powers = {1 << bit for bit in range(most.bit_length())}
    wanted = sorted({number for number in (*powers, *numbers) if 0 < number <= _MOST_UNITS})
    return Parts(tuple(_resized(met[0], number, leading, has_units) for number in wanted), leading, has_units)


def _leading(met: Sequence[Shapes]) -> tuple[int | None, tuple[bool, ...]]:
    """Return how many leading sizes differ between runs, and in which inputs; None if others do."""
    columns = list(zip(*met, strict=True))
    has_units = tuple(len(set(column)) > 1 for column in columns)
    open_columns = [column for column, differs in zip(columns, has_units, strict=True) if differs]
    if any(len({len(shape) for shape in column}) > 1 for column in open_columns):
        return None, has_units
    leading = 1 + max(
        axis for column in open_columns for axis, sizes in enumerate(zip(*column, strict=True)) if len(set(sizes)) > 1
    )
    for shapes in met:
        if len({shape[:leading] for shape, differs in zip(shapes, has_units, strict=True) if differs}) > 1:
            return None, has_units
    if any(len(column[0]) <= leading for column in open_columns):
        return None, has_units
    return leading, has_units


def _units(shapes: Shapes, leading: int, has_units: Sequence[bool]) -> int:
    first = next(shape for shape, differs in zip(shapes, has_units, strict=True) if differs)
    return math.prod(first[:leading])


def _resized(shapes: Shapes, units: int, leading: int, has_units: Sequence[bool]) -> Shapes:
    """Return the shapes of so many units."""
    sizes = (units,) + (1,) * (leading - 1)
    return tuple(
        (*sizes, *shape[leading:]) if differs else shape for shape, differs in zip(shapes, has_units, strict=True)
    )


def _are_independent(
    segment: Segment, shapes: Shapes, leading: int, has_units: Sequence[bool], dtypes: Sequence[np.dtype[Any]]
) -> bool:
    """Return whether three units, computed at once, are what one and two are, computed apart."""
    rng = np.random.default_rng(0)
    given = [
        _random(rng, shape, dtype) for shape, dtype in zip(_resized(shapes, 3, leading, has_units), dtypes, strict=True)
    ]
    whole = _computed(segment, given)
    first = _computed(segment, [x[:1] if differs else x for x, differs in zip(given, has_units, strict=True)])
    rest = _computed(segment, [x[1:] if differs else x for x, differs in zip(given, has_units, strict=True)])
    return all(itertools.starmap(_is_joined, zip(whole, first, rest, strict=True)))


def _random(rng: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    if dtype.kind == "f":
        return rng.standard_normal(shape, np.float32).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)


def _computed(segment: Segment, given: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    values = {name: np.ascontiguousarray(x) for name, x in zip(segment.inputs, given, strict=True)}
    dataclasses.replace(segment).run(values, ThreadPool(1))
    return [values[name] for name in segment.outputs]


def _is_joined(whole: NDArray[Any], first: NDArray[Any], rest: NDArray[Any]) -> bool:
    if whole.shape[1:] != first.shape[1:] or len(whole) != len(first) + len(rest):
        return False
    joined = np.concatenate([first, rest])
    if whole.dtype.kind != "f":
        return np.array_equal(whole, joined)
    return bool(np.allclose(whole, joined, rtol=0, atol=_TOLERANCE * float(np.abs(whole).max(initial=0))))
