"""A kernel call, prepared: which tasks run in which order, with everything but the arrays already in place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from sparse_rt_kernels.jit.compilation import TaskFunction, kernel_task
from sparse_rt_kernels.threads.workspace import ALIGNMENT, address_of

__all__ = ["Launch", "LaunchRunner", "Phase"]

#: Threads' scratch memories begin in different sets of the first-level cache.
_STAGGER: Final = 17 * ALIGNMENT
#: What the Python objects of a launch take.
_OBJECTS_BYTES: Final = 1024


@dataclass(frozen=True, eq=False, slots=True)
class Phase:
    """Tasks that may run at the same time.

    Attributes
    ----------
    function
        Of the type :data:`sparse_rt_kernels.jit.compilation.TaskFunction`.
    arguments
        The record that every task gets the address of.
    tasks
        How many there are; each is called with its number.
    """

    function: TaskFunction
    arguments: NDArray[Any]
    tasks: int

    @property
    def address(self) -> int:
        """Of the function's machine code."""
        return kernel_task(self.function)


class LaunchRunner(Protocol):
    """What runs launches: :class:`.pool.ThreadPool`."""

    def launch(self, launch: Launch, x: int, other: int, out: int) -> bool:
        """Run a launch on arrays at addresses; return whether a task asked that it be repeated in another way."""


class Launch:
    """Phases, one after the other, for arrays of one shape. Immutable: several threads may run it at once.

    Made once for a layer and a shape, so that a run costs a few microseconds of Python however much there is to pass.

    Tasks get the address of the first array that a kernel reads as `x`, and as `other` that of the second one, or 0 if
    there is none. A kernel that reads more than two gets, as `other`, the address of a table: the addresses of all
    arrays after the first, in order, as int64.

    Parameters
    ----------
    phases
        In order; a phase begins when all tasks of the one before have ended.
    shared_bytes
        Scratch memory of the whole call.
    scratch_bytes
        Scratch memory of each thread.
    keep
        Whatever owns the memory whose addresses the arguments hold.
    otherwise
        What to run, from the start, if a task asks for it.
    constants
        The addresses of what belongs to one layer: packed weights, bias, scales (0 for what is absent). Whatever in the
        arguments depends on that layer's data is one of these addresses, in an int64 field, so that a
        :class:`.launch_family.LaunchFamily` can put others in their place. None where that is not so.
    """

    def __init__(
        self,
        phases: Sequence[Phase],
        shared_bytes: int = 0,
        scratch_bytes: int = 0,
        keep: tuple[object, ...] = (),
        otherwise: Launch | None = None,
        constants: tuple[int, ...] | None = None,
    ) -> None:
        self._keep = keep
        self._otherwise = otherwise
        self.phases = tuple(phases)
        self.constants = constants
        self.count = len(self.phases)
        self.scratch_bytes = scratch_bytes
        self.shared_bytes = -(-shared_bytes // ALIGNMENT) * ALIGNMENT
        self.stride = -(-scratch_bytes // ALIGNMENT) * ALIGNMENT + _STAGGER
        words = [(phase.address, address_of(phase.arguments), phase.tasks, 0) for phase in self.phases]
        self._words: NDArray[np.int64] = np.array(words, np.int64).reshape(-1, 4)
        #: Address of the phases as :func:`.dispatch.dispatch` takes them.
        self.address = address_of(self._words)
        self._header: NDArray[np.int64] = np.array([self.address, self.count, self.shared_bytes, self.stride])
        #: Address of the launch, likewise.
        self.header = address_of(self._header)
        #: The most tasks that any phase can run at once.
        self.width = max((phase.tasks for phase in self.phases), default=0)

    @property
    def words(self) -> NDArray[np.int64]:
        """The phases as words: function, arguments, tasks."""
        return self._words

    @property
    def has_other_way(self) -> bool:
        """Whether a task may ask for another way to run."""
        return self._otherwise is not None

    @property
    def nbytes(self) -> int:
        """Resident bytes, roughly: of the arguments, and of the arrays that they refer to."""
        arrays = [phase.arguments for phase in self.phases]
        arrays += [array for array in self._keep if isinstance(array, np.ndarray)]
        return _OBJECTS_BYTES + self._words.nbytes + sum(array.nbytes for array in arrays)

    def run(
        self,
        x: NDArray[Any],
        out: NDArray[Any],
        pool: LaunchRunner,
        other: NDArray[Any] | None = None,
        *more: NDArray[Any],
    ) -> None:
        """Run on arrays of the shapes, dtypes and strides that the launch was made for.

        `other` is the second array that the kernel reads, if it reads two; `more` follow it, if it reads more.
        """
        if other is None:
            second = 0
        elif more:
            table = np.array([address_of(array) for array in (other, *more)], np.int64)
            second = address_of(table)
        else:
            second = address_of(other)
        self.run_at(address_of(x), second, address_of(out), pool)

    def run_at(self, x: int, other: int, out: int, pool: LaunchRunner) -> None:
        """Run on the arrays at these addresses; 0 stands for no `other`."""
        if pool.launch(self, x, other, out):
            self.repeat_at(x, other, out, pool)

    def repeat_at(self, x: int, other: int, out: int, pool: LaunchRunner) -> None:
        """Run in the other way, after a task has asked for it."""
        if self._otherwise is not None:
            self._otherwise.run_at(x, other, out, pool)
