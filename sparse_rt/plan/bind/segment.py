"""Kernel steps in a row, bound to shapes: values in one arena, all launches in one native call."""

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import numpy as np
from sparse_rt_kernels.threads.pool import ThreadPool

from sparse_rt.errors import FeedError, message
from sparse_rt.plan.bind.arena import ArenaPool
from sparse_rt.plan.bind.binding import Binder
from sparse_rt.plan.bind.bound_segment import BoundSegment, Seen
from sparse_rt.plan.bind.check import check_steps
from sparse_rt.plan.bind.layout import laid_out
from sparse_rt.plan.bind.layout_candidates import may_be_laid_out
from sparse_rt.plan.bind.shape_classes import MISSING, ShapeClasses
from sparse_rt.plan.steps.step import BindableStep, Environment, Part, can_be_bound, spent

__all__ = ["LAID_OUT_AT", "MOST_BYTES", "Seen", "Segment", "segmented"]

#: How often shapes that are not the first must come until their values are laid out: that takes as long as some ten
#: runs of small images, of which it saves a third of each.
LAID_OUT_AT: Final = 8

#: What the bound shape classes of all segments of a plan may take together: some 600 of a network of 200 layers.
MOST_BYTES: Final = 1 << 26
#: And those of one segment at least.
_FEWEST_BYTES: Final = 1 << 19


@dataclass(frozen=True, eq=False, slots=True)
class Segment:
    """Run kernel steps that follow each other without Python between them.

    A run binds them to the shapes of its inputs when it first sees these: every call is prepared, every value between
    the steps gets a place in the arena. Where a step has no one call, or an input is not as kernels take it,
    the steps run one by one.

    Attributes
    ----------
    steps
        In order.
    inputs
        Names of the values that they read and that none of them writes.
    outputs
        Names of the values that they write and that others read.
    arenas
        Memory for the values between them.
    classes
        What it is bound to.
    """

    steps: tuple[BindableStep, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    arenas: ArenaPool
    _dtypes: tuple[np.dtype[Any], ...] = field(init=False, repr=False)
    _spent: tuple[tuple[str, ...], ...] = field(init=False, repr=False)
    _lays_out: bool = field(init=False, repr=False)
    _binder: list[Binder] = field(default_factory=list, init=False, repr=False)
    classes: ShapeClasses[BoundSegment | None] = field(
        default_factory=lambda: ShapeClasses(MOST_BYTES), init=False, repr=False
    )

    def __post_init__(self) -> None:
        dtypes = {name: dtype for step in self.steps for name, dtype in zip(step.inputs, step.x_dtypes, strict=True)}
        object.__setattr__(self, "_dtypes", tuple(dtypes[name] for name in self.inputs))
        object.__setattr__(self, "_spent", spent(self.steps))
        object.__setattr__(self, "_lays_out", any(map(may_be_laid_out, self.steps)))

    @property
    def input_dtypes(self) -> tuple[np.dtype[Any], ...]:
        """Of the values that it reads."""
        return self._dtypes

    def run(self, values: Environment, pool: ThreadPool, run_options: Any = None) -> None:
        """Compute the outputs.

        Raises
        ------
        FeedError
            A value has the wrong dtype or shape, or memory cannot hold what the shapes need.
        """
        arrays = [values[name] for name in self.inputs]
        bound = None
        if all(map(_fits, arrays, self._dtypes)):
            bound = self.bind(tuple(array.shape for array in arrays), pool.threads)
        if bound is None:
            self._run_steps(values, pool)
            return
        try:
            bound.run(arrays, values, pool, self.arenas)
        except MemoryError as error:
            where = f"steps '{self.steps[0].y}' to '{self.steps[-1].y}'"
            got = f"inputs of shapes {', '.join(str(array.shape) for array in arrays)}, which need {bound.nbytes} bytes"
            raise FeedError(message(where, "values that memory can hold", got)) from error

    def show(self, values: Environment, pool: ThreadPool, seen: Seen) -> bool:
        """Compute the outputs as :meth:`run` does, in the same arrays, but launch by launch, and show each result.

        Returns whether there are launches; False, and nothing is done, where :meth:`run` takes the steps one by one.
        """
        arrays = [values[name] for name in self.inputs]
        if not all(map(_fits, arrays, self._dtypes)):
            return False
        bound = self.bind(tuple(array.shape for array in arrays), pool.threads)
        if bound is None:
            return False
        bound.run(arrays, values, pool, self.arenas, seen)
        return True

    def bind(self, shapes: tuple[tuple[int, ...], ...], threads: int) -> BoundSegment | None:
        """Return the segment for inputs of `shapes`; None where its steps have to run one by one.

        Values are laid out (see :mod:`sparse_rt.plan.bind.layout`) for shapes that are the first, or have come often:
        for those that are seen a few times it would cost more than it saves.

        Raises
        ------
        FeedError
            No inputs of these shapes can be computed.
        """
        key = (threads, shapes)
        found = self.classes.get(key)
        if isinstance(found, BoundSegment):
            if not found.is_draft:
                return found
            found.sights[0] += 1
            if found.sights[0] < LAID_OUT_AT:
                return found
        elif found is None:
            return None
        is_draft = self._lays_out and found is MISSING and len(self.classes) > 0
        bound = self._bind(dict(zip(self.inputs, shapes, strict=True)), threads, is_draft)
        self.classes.put(key, bound, 0 if bound is None else bound.kept_bytes)
        return bound

    def describe(self) -> str:
        """Return one line for a person."""
        return f"segment of {len(self.steps)} steps  {', '.join(self.inputs)} -> {', '.join(self.outputs)}"

    def current_steps(self) -> tuple[BindableStep, ...]:
        """Return the steps as they are laid out for the shapes that were used last; its own where none were."""
        bound = self.classes.latest
        return self.steps if bound is None else bound.steps

    def _run_steps(self, values: Environment, pool: ThreadPool) -> None:
        for step, names in zip(self.steps, self._spent, strict=True):
            step.run(values, pool)
            for name in names:
                if name not in self.outputs and name not in self.inputs:
                    del values[name]

    def _bind(self, shapes: dict[str, tuple[int, ...]], threads: int, is_draft: bool) -> BoundSegment | None:
        if self._lays_out and not is_draft:
            steps = laid_out(self.steps, shapes, self.outputs, threads)
            check_steps(steps, dict(zip(self.inputs, self._dtypes, strict=True)), self.outputs)
            if steps != self.steps:
                return Binder(steps, self.inputs, self.outputs).bind(shapes, threads)
        if not self._binder:
            self._binder.append(Binder(self.steps, self.inputs, self.outputs))
        return self._binder[0].bind(shapes, threads, is_draft)


def _fits(array: Any, dtype: np.dtype[Any]) -> bool:
    return isinstance(array, np.ndarray) and array.dtype == dtype and array.flags.c_contiguous and array.flags.aligned


P = TypeVar("P", bound=Part)


def segmented(
    steps: Sequence[P], wanted: Collection[str], shapes: Mapping[str, tuple[int, ...]]
) -> tuple[P | Segment, ...]:
    """Return `steps` with those that follow each other and can be bound put together as segments.

    Parameters
    ----------
    steps
        In order of execution.
    wanted
        Values that callers may ask for.
    shapes
        Those that are known.
    """
    arenas = ArenaPool()
    rows = itertools.groupby(steps, lambda step: can_be_bound(step) and step.is_bindable(shapes))
    found = [(are_bindable, tuple(row)) for are_bindable, row in rows]
    needed = set(wanted)
    parts: list[P | Segment] = []
    for are_bindable, row in reversed(found):
        parts.extend([_segment(row, needed, arenas)] if are_bindable else reversed(row))
        needed.update(name for step in row for name in step.inputs)
    parts.reverse()
    segments = [part for part in parts if isinstance(part, Segment)]
    for segment in segments:
        segment.classes.most_bytes = max(_FEWEST_BYTES, MOST_BYTES // len(segments))
    return tuple(parts)


def _segment(row: Sequence[Any], needed: Collection[str], arenas: ArenaPool) -> Segment:
    """Return the segment of some steps, of which others read the values `needed`."""
    written = {step.y for step in row}
    read = dict.fromkeys(name for step in row for name in step.inputs if name not in written)
    return Segment(tuple(row), tuple(read), tuple(step.y for step in row if step.y in needed), arenas)
