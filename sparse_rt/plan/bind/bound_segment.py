"""A segment for inputs of one shape class: prepared calls, and where in memory each value lies."""

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sparse_rt_kernels.threads.pool import ThreadPool
from sparse_rt_kernels.threads.sequence import LaunchSequence
from sparse_rt_kernels.threads.workspace import address_of

from sparse_rt.plan.bind.arena import ArenaPool
from sparse_rt.plan.steps.step import BindableStep, Environment

__all__ = ["BoundSegment", "Seen"]

#: Gets a step as it is laid out, and a copy of what it has just written.
Seen = Callable[[BindableStep, NDArray[Any]], None]

#: What the Python objects take.
_OBJECTS_BYTES = 2048


@dataclass(frozen=True, eq=False, slots=True)
class BoundSegment:
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
        What is run: the segment's steps, as :mod:`sparse_rt.plan.bind.layout` has laid them out.
    groups, y_shapes
        For each step the number of its group, and for each group the shape of what its steps write; None for one that
        launches nothing.
    is_draft
        Whether the steps have not been laid out, since the shapes may hardly be seen again.
    sights
        How often the shapes of a draft have come: one number, in a list since it changes.
    """

    sequence: LaunchSequence
    offsets: NDArray[np.int64]
    nbytes: int
    read: tuple[tuple[int, ...], ...]
    written: tuple[tuple[str, tuple[int, ...], np.dtype[Any], tuple[int, ...]], ...]
    views: tuple[tuple[str, str, tuple[int, ...]], ...]
    steps: tuple[BindableStep, ...]
    groups: NDArray[np.int64]
    y_shapes: tuple[tuple[int, ...] | None, ...]
    is_draft: bool = False
    sights: list[int] = field(default_factory=lambda: [1])

    @property
    def kept_bytes(self) -> int:
        """What keeping it takes, roughly; the offsets and groups are shared."""
        return _OBJECTS_BYTES + 8 * len(self.y_shapes) + self.sequence.nbytes

    def run(
        self,
        arrays: Sequence[NDArray[Any]],
        values: Environment,
        pool: ThreadPool,
        arenas: ArenaPool,
        seen: Seen | None = None,
    ) -> None:
        """Compute from `arrays`, the segment's inputs, what is handed on, into `values`. Raises MemoryError."""
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
        for step, group in zip(self.steps, self.groups.tolist(), strict=True):
            shape = self.y_shapes[group]
            if shape is None:
                continue
            self.sequence.run_one(number, table, pool)
            _, _, out = self.sequence.addresses(number, table)
            number += 1
            y = np.empty(shape, step.y_dtype)
            ctypes.memmove(address_of(y), out, y.nbytes)
            seen(step, y)
