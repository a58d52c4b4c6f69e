"""Kernel steps in a row, bound to shapes: values in one arena, all launches in one native call."""

import ctypes
import itertools
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sparse_rt_kernels.parallel import ThreadPool
from sparse_rt_kernels.sequence import NO_OTHER, Bound, LaunchSequence, table_at
from sparse_rt_kernels.workspace import address_of

from sparse_rt.errors import FeedError, message
from sparse_rt.plan.arena import ArenaPool, Lifetime, place
from sparse_rt.plan.check import check_steps
from sparse_rt.plan.layout import laid_out
from sparse_rt.plan.step import BindableStep, Environment, Step, StepCall, spent

__all__ = ["Seen", "Segment", "segmented"]

#: Shape classes that a segment keeps bound; the one bound first goes first.
_MOST_CLASSES: Final = 32
#: Gets a step as it is laid out, and a copy of what it has just written.
Seen = Callable[[BindableStep, NDArray[Any]], None]


@dataclass(frozen=True, eq=False, slots=True)
class _BoundSegment:
    """A segment for inputs of one shape class.

    Attributes
    ----------
    sequence
        The launches of all steps.
    offsets
        For each entry of the table of addresses, where in the arena its array lies. (Entries of arrays that lie
        elsewhere are overwritten in each run.)
    nbytes
        Of the arena.
    read
        For each input of the segment, the entries that hold its address.
    written
        For each array that is handed on: name, shape, dtype, and the entries that hold its address.
    views
        For each value that is another shape of an array: its name, the array's name, the shape.
    steps
        What is run: the segment's steps, as :mod:`sparse_rt.plan.layout` has laid them out.
    calls
        Of the steps.
    """

    sequence: LaunchSequence
    offsets: NDArray[np.int64]
    nbytes: int
    read: tuple[tuple[int, ...], ...]
    written: tuple[tuple[str, tuple[int, ...], np.dtype[Any], tuple[int, ...]], ...]
    views: tuple[tuple[str, str, tuple[int, ...]], ...]
    steps: tuple[BindableStep, ...]
    calls: tuple[StepCall, ...]

    def run(
        self,
        arrays: Sequence[NDArray[Any]],
        values: Environment,
        pool: ThreadPool,
        arenas: ArenaPool,
        seen: Seen | None = None,
    ) -> None:
        arena = arenas.acquire(self.nbytes)
        try:
            table = self.offsets + arena.address
            for array, entries in zip(arrays, self.read, strict=True):
                for entry in entries:
                    table[entry] = address_of(array)
            for name, shape, dtype, entries in self.written:
                y = values[name] = np.empty(shape, dtype)
                for entry in entries:
                    table[entry] = address_of(y)
            if seen is None:
                self.sequence.run(table, pool)
            else:
                self._show(table, pool, seen)
        finally:
            arenas.release(arena)
        for name, origin, shape in self.views:
            values[name] = values[origin].reshape(shape)

    def _show(self, table: NDArray[np.int64], pool: ThreadPool, seen: Seen) -> None:
        """Run the launches one by one on the same arrays, and show what each has written."""
        number = 0
        for step, call in zip(self.steps, self.calls, strict=True):
            if call.launch is None:
                continue
            self.sequence.run_one(number, table, pool)
            _, _, out = self.sequence.addresses(number, table)
            number += 1
            y = np.empty(call.y_shape, step.y_dtype)
            ctypes.memmove(address_of(y), out, y.nbytes)
            seen(step, y)


@dataclass(frozen=True, eq=False, slots=True)
class Segment:
    """Run kernel steps that follow each other without Python between them.

    A run binds them to the shapes of its inputs when it first sees these: every call is prepared, every value between
    the steps gets a place in the arena. Where a step has no native call (portable kernels), or an input is not as
    kernels take it, the steps run one by one.

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
    """

    steps: tuple[BindableStep, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    arenas: ArenaPool
    _dtypes: tuple[np.dtype[Any], ...] = field(init=False, repr=False)
    _spent: tuple[tuple[str, ...], ...] = field(init=False, repr=False)
    _classes: dict[tuple[Any, ...], _BoundSegment | None] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        dtypes = {name: dtype for step in self.steps for name, dtype in zip(step.inputs, step.x_dtypes, strict=True)}
        object.__setattr__(self, "_dtypes", tuple(dtypes[name] for name in self.inputs))
        object.__setattr__(self, "_spent", spent(self.steps))

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

    def bind(self, shapes: tuple[tuple[int, ...], ...], threads: int) -> _BoundSegment | None:
        """Return the segment for inputs of `shapes`; None where its steps have to run one by one.

        Raises
        ------
        FeedError
            No inputs of these shapes can be computed.
        """
        key = (threads, shapes)
        if key not in self._classes:
            bound = self._bind(dict(zip(self.inputs, shapes, strict=True)), threads)
            if len(self._classes) >= _MOST_CLASSES:
                self._classes.pop(next(iter(self._classes)), None)
            self._classes[key] = bound
        return self._classes.get(key)

    def describe(self) -> str:
        """Return one line for a person."""
        return f"segment of {len(self.steps)} steps  {', '.join(self.inputs)} -> {', '.join(self.outputs)}"

    def current_steps(self) -> tuple[BindableStep, ...]:
        """Return the steps as they are laid out for the shapes that were bound last; its own where none were."""
        bound = next(reversed(self._classes.values()), None)
        return self.steps if bound is None else bound.steps

    def _run_steps(self, values: Environment, pool: ThreadPool) -> None:
        for step, names in zip(self.steps, self._spent, strict=True):
            step.run(values, pool)
            for name in names:
                if name not in self.outputs and name not in self.inputs:
                    del values[name]

    def _bind(self, shapes: dict[str, tuple[int, ...]], threads: int) -> _BoundSegment | None:
        calls = []
        steps = laid_out(self.steps, shapes, self.outputs, threads)
        check_steps(steps, self.inputs, self.outputs)
        for step in steps:
            call = step.bind(tuple(shapes[name] for name in step.inputs), threads)
            if call is None:
                return None
            shapes[step.y] = call.y_shape
            calls.append(call)
        return _Binding(self, steps, calls, shapes).bound()


def _fits(array: Any, dtype: np.dtype[Any]) -> bool:
    return isinstance(array, np.ndarray) and array.dtype == dtype and array.flags.c_contiguous and array.flags.aligned


class _Binding:
    """The making of a bound segment: in which array each value lies, and where that array lies."""

    def __init__(
        self,
        segment: Segment,
        steps: Sequence[BindableStep],
        calls: Sequence[StepCall],
        shapes: Mapping[str, tuple[int, ...]],
    ) -> None:
        self._segment = segment
        self._steps = steps
        self._calls = calls
        self._shapes = shapes
        #: For each value the one whose array holds it: its own, or that of which it is another shape or successor.
        self._origins = {name: name for name in segment.inputs}
        self._dtypes: dict[str, np.dtype[Any]] = {}
        self._first: dict[str, int] = {}
        self._last: dict[str, int] = {}
        self._find_arrays()
        self._leaving = {self._origins[name] for name in segment.outputs}

    def _find_arrays(self) -> None:
        for number, (step, call) in enumerate(zip(self._steps, self._calls, strict=True)):
            for name in step.inputs:
                self._last[self._origins[name]] = number
            origin = self._origins[step.inputs[0]] if call.is_view else step.y
            self._origins[step.y] = origin
            if origin == step.y:
                self._first[origin] = number
                self._dtypes[origin] = step.y_dtype

    def _nbytes(self, name: str) -> int:
        return math.prod(self._shapes[name]) * self._dtypes[name].itemsize

    def _share_arrays(self) -> None:
        """Let a step write its output over an input that nobody reads later, where its kernel allows it."""
        inner = self._first.keys() - self._leaving
        for number, step in enumerate(self._steps):
            y = step.y
            if self._origins[y] != y or y not in inner:
                continue
            for name in step.overwrites:
                origin = self._origins[name]
                is_last = origin in inner and self._last[origin] == number
                # What the step reads besides must lie elsewhere.
                others = (other for other in step.inputs if other not in step.overwrites)
                is_last = is_last and all(self._origins[other] != origin for other in others)
                if is_last and self._nbytes(origin) == self._nbytes(y):
                    self._origins = {key: origin if value == y else value for key, value in self._origins.items()}
                    self._last[origin] = self._last.get(y, number)
                    break

    def bound(self) -> _BoundSegment:
        self._share_arrays()
        arrays = dict.fromkeys(self._origins.values())
        inner = [name for name in arrays if name in self._first and name not in self._leaving]
        lifetimes = [
            Lifetime(self._nbytes(name), self._first[name], self._last.get(name, self._first[name])) for name in inner
        ]
        offsets, nbytes = place(lifetimes)
        places = dict(zip(inner, offsets, strict=True))
        launches, holders = self._table()
        entries = {name: tuple(i for i, holder in enumerate(holders) if holder == name) for name in arrays}
        written = [name for name in arrays if name in self._first and name in self._leaving]
        return _BoundSegment(
            sequence=LaunchSequence(launches),
            offsets=np.array([places.get(holder, 0) for holder in holders] or [0], np.int64),
            nbytes=nbytes,
            read=tuple(entries.get(name, ()) for name in self._segment.inputs),
            written=tuple((name, self._shapes[name], self._dtypes[name], entries[name]) for name in written),
            views=tuple(
                (name, self._origins[name], self._shapes[name])
                for name in self._segment.outputs
                if self._origins[name] != name
            ),
            steps=tuple(self._steps),
            calls=tuple(self._calls),
        )

    def _table(self) -> tuple[list[Bound], list[str]]:
        """Return the launches, and for each entry of the table the value whose array's address it holds."""
        launches: list[Bound] = []
        holders: list[str] = []
        for step, call in zip(self._steps, self._calls, strict=True):
            if call.launch is None:
                continue
            first = len(holders)
            names = [step.y, *step.inputs]
            holders.extend(self._origins[name] for name in names)
            others = len(step.inputs) - 1
            other = NO_OTHER if others == 0 else first + 2 if others == 1 else table_at(first + 2)
            launches.append(Bound(call.launch, first + 1, other, first))
        return launches, holders


def segmented(
    steps: Sequence[Step], wanted: Collection[str], shapes: Mapping[str, tuple[int, ...]]
) -> tuple[Step, ...]:
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
    parts: list[Step] = []
    rows = itertools.groupby(steps, lambda step: isinstance(step, BindableStep) and step.is_bindable(shapes))
    end = 0
    for are_bindable, row in rows:
        found = tuple(row)
        end += len(found)
        parts.extend([_segment(found, steps[end:], wanted, arenas)] if are_bindable else found)
    return tuple(parts)


def _segment(row: Sequence[Any], later: Sequence[Step], wanted: Collection[str], arenas: ArenaPool) -> Segment:
    written = {step.y for step in row}
    read = dict.fromkeys(name for step in row for name in step.inputs if name not in written)
    needed = {*wanted, *(name for step in later for name in step.inputs)}
    return Segment(tuple(row), tuple(read), tuple(step.y for step in row if step.y in needed), arenas)
