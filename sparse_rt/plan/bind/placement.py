"""In which array each value of a segment lies, and where that array lies: found once for steps, and then by sizes."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sparse_rt_kernels.threads.sequence import NO_OTHER, table_at
from sparse_rt_kernels.threads.workspace import ALIGNMENT

from sparse_rt.plan.bind.arena import Lifetime, place
from sparse_rt.plan.steps.step import BindableStep

__all__ = ["LAUNCHES", "NOTHING", "VIEWS", "Handed", "Placement"]

#: What the call of a step does: it launches something, it has nothing to compute, or y is x in another shape.
LAUNCHES: Final = 0
NOTHING: Final = 1
VIEWS: Final = 2
#: Arenas of up to so many bytes are made a quarter larger than they need to be, once sizes have been seen to grow.
_MOST_SPARE: Final = 1 << 26


class Handed(NamedTuple):
    """An array that later steps or the caller read: its name, the step that writes it, the entries of its address."""

    name: str
    writer: int
    entries: tuple[int, ...]


class _Reserved(NamedTuple):
    """Places in the arena: how many bytes each inner array may have, the offset of each entry, the whole."""

    nbytes: NDArray[np.int64]
    offsets: NDArray[np.int64]
    total: int


class Placement:
    """What does not depend on sizes: which values share an array, which live at once, which entry holds what.

    Parameters
    ----------
    steps, inputs, outputs
        Of the segment.
    kinds
        For each step :data:`LAUNCHES`, :data:`NOTHING` or :data:`VIEWS`.
    nbytes
        Of what each step writes. Two arrays of as many bytes may become one, so :meth:`fits` must be asked for others.

    Attributes
    ----------
    entries
        (launches, 3): which entries of the table of addresses hold x, other and out of each launch.
    read
        For each input, the entries that hold its address.
    written
        The arrays that are handed on.
    views
        For each value that is handed on and is another shape of an array: its name, the array's, the step's number.
    """

    def __init__(
        self,
        steps: Sequence[BindableStep],
        inputs: Sequence[str],
        outputs: Sequence[str],
        kinds: Sequence[int],
        nbytes: NDArray[np.int64],
    ) -> None:
        self._steps = steps
        #: For each value the one whose array holds it: its own, or that of which it is another shape.
        self._origins = {name: name for name in inputs}
        #: For each array that a step writes over another one, that one.
        self._successors: dict[str, str] = {}
        self._first: dict[str, int] = {}
        self._last: dict[str, int] = {}
        self._find_arrays(kinds)
        leaving = {self._origins[name] for name in outputs}
        equal, unequal = self._share_arrays(leaving, nbytes)
        self._equal = np.array(equal, np.int64).reshape(-1, 2)
        self._unequal = np.array(unequal, np.int64).reshape(-1, 2)
        inner = [name for name in self._first if name not in leaving and name not in self._successors]
        self._writers = np.array([self._first[name] for name in inner], np.int64)
        self._lasts = [self._last.get(name, self._first[name]) for name in inner]
        holders, self.entries = self._table(kinds)
        places = {name: number for number, name in enumerate(inner)}
        # Those of other arrays are overwritten in each run; here they are 0.
        self._holders = np.array([places.get(holder, len(inner)) for holder in holders] or [len(inner)], np.int64)
        found: dict[str, list[int]] = {}
        for entry, holder in enumerate(holders):
            found.setdefault(holder, []).append(entry)
        self.read = tuple(tuple(found.get(name, ())) for name in inputs)
        self.written = tuple(
            Handed(name, number, tuple(found.get(name, ())))
            for name, number in self._first.items()
            if name in leaving and name not in self._successors
        )
        writers = {step.y: number for number, step in enumerate(steps)}
        self.views = tuple(
            (name, origin, writers[name]) for name in outputs if (origin := self._array_of(name)) != name
        )
        self._reserved: _Reserved | None = None
        del self._steps, self._origins, self._first, self._last

    def fits(self, nbytes: NDArray[np.int64]) -> bool:
        """Return whether the same values could share an array if steps wrote so many bytes."""
        equal, unequal = nbytes[self._equal], nbytes[self._unequal]
        return bool((equal[:, 0] == equal[:, 1]).all() and (unequal[:, 0] != unequal[:, 1]).all())

    def places(self, nbytes: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
        """Return the offset of each entry's array in the arena, and the arena's bytes.

        What was placed for larger arrays holds smaller ones, too. So places are found anew only when an array is larger
        than all before, and then with some room.
        """
        reserved, needed = self._reserved, nbytes[self._writers]
        if reserved is None:
            reserved = self._reserved = self._place(needed)
        elif (needed > reserved.nbytes).any():
            larger = np.maximum(needed, reserved.nbytes)
            found = self._place(np.where(needed > reserved.nbytes, needed + needed // 4, reserved.nbytes))
            reserved = self._reserved = found if found.total <= _MOST_SPARE else self._place(larger)
        return reserved.offsets, reserved.total

    def _place(self, nbytes: NDArray[np.int64]) -> _Reserved:
        sizes = nbytes.tolist()
        offsets, total = place(list(map(Lifetime, sizes, self._writers.tolist(), self._lasts)))
        table = np.array([*offsets, 0], np.int64)[self._holders]
        return _Reserved(-(-nbytes // ALIGNMENT) * ALIGNMENT, table, total)

    def _find_arrays(self, kinds: Sequence[int]) -> None:
        for number, (step, kind) in enumerate(zip(self._steps, kinds, strict=True)):
            for name in step.inputs:
                self._last[self._origins[name]] = number
            origin = self._origins[step.inputs[0]] if kind == VIEWS else step.y
            self._origins[step.y] = origin
            if origin == step.y:
                self._first[origin] = number

    def _array_of(self, name: str) -> str:
        origin = self._origins[name]
        return self._successors.get(origin, origin)

    def _share_arrays(
        self, leaving: set[str], nbytes: NDArray[np.int64]
    ) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """Let a step write its output over an input that nobody reads later, where its kernel allows it.

        Returns the pairs of steps that write as many bytes as each other, and of those that do not, so that what is
        found depends on it.
        """
        equal: list[tuple[int, int]] = []
        unequal: list[tuple[int, int]] = []
        for number, step in enumerate(self._steps):
            y, overwrites = step.y, step.overwrites
            if not overwrites or self._origins[y] != y or y in leaving:
                continue
            for name in overwrites:
                array = self._array_of(name)
                if array not in self._first or array in leaving or self._last[array] != number:
                    continue
                # What the step reads besides must lie elsewhere.
                if any(self._array_of(other) == array for other in step.inputs if other not in overwrites):
                    continue
                pair = (self._first[array], number)
                if nbytes[pair[0]] != nbytes[number]:
                    unequal.append(pair)
                    continue
                equal.append(pair)
                self._successors[y] = array
                self._last[array] = self._last.get(y, number)
                break
        return equal, unequal

    def _table(self, kinds: Sequence[int]) -> tuple[list[str], NDArray[Any]]:
        """Return for each entry of the table the value whose array's address it holds, and the launches' entries."""
        holders: list[str] = []
        entries = []
        for step, kind in zip(self._steps, kinds, strict=True):
            if kind != LAUNCHES:
                continue
            first, inputs = len(holders), step.inputs
            holders.append(self._array_of(step.y))
            holders.extend(map(self._array_of, inputs))
            others = len(inputs) - 1
            other = NO_OTHER if others == 0 else first + 2 if others == 1 else table_at(first + 2)
            entries.append((first + 1, other, first))
        return holders, np.array(entries, np.int64).reshape(-1, 3)
