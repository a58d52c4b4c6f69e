"""Launches one after the other in one call, so that a run of many layers does not pass through Python between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparse_rt_kernels.launch import Launch

if TYPE_CHECKING:
    from sparse_rt_kernels.parallel import ThreadPool

__all__ = ["NO_OTHER", "Bound", "LaunchSequence", "table_at"]

#: In place of an entry: the launch reads nothing beside x.
NO_OTHER: Final = -1


def table_at(entry: int) -> int:
    """Return what stands for `other` if the launch is to get the address of `entry` itself, a table of its inputs."""
    return -2 - entry


class Bound(NamedTuple):
    """A launch, and the entries of the table of addresses where those of its arrays stand.

    `other` is an entry, :data:`NO_OTHER`, or :func:`table_at` an entry.
    """

    launch: Launch
    x: int
    other: int
    out: int


class LaunchSequence:
    """Launches in order, on arrays whose addresses a table holds. Immutable: several threads may run it at once.

    Parameters
    ----------
    launches
        In order; one begins when all tasks of the one before have ended.
    """

    def __init__(self, launches: Sequence[Bound]) -> None:
        self._launches = tuple(launches)
        words = [(launch.address, launch.count, x, other, out) for launch, x, other, out in self._launches]
        self._words: NDArray[np.int64] = np.array(words, np.int64).reshape(-1, 5)
        #: Address of the launches as :func:`sparse_rt_kernels.team.dispatch_sequence` takes them.
        self.address = int(self._words.ctypes.data)
        self.count = len(self._launches)
        self.shared_bytes = max((bound.launch.shared_bytes for bound in self._launches), default=0)
        self.stride = max((bound.launch.stride for bound in self._launches), default=0)
        #: The most tasks that any phase of any launch can run at once.
        self.width = max((bound.launch.width for bound in self._launches), default=0)

    def run(self, table: NDArray[np.int64], pool: ThreadPool) -> None:
        """Run all launches on the arrays whose addresses `table` holds."""
        first = 0
        while first < self.count:
            stopped = pool.launch_sequence(self, first, table)
            if stopped is None:
                return
            launch = self._launches[stopped].launch
            launch.repeat_at(*self.addresses(stopped, table), pool)
            first = stopped + 1

    def addresses(self, number: int, table: NDArray[np.int64]) -> tuple[int, int, int]:
        """Return the addresses of x, other and out that launch `number` gets."""
        _, x, entry, out = self._launches[number]
        if entry >= 0:
            other = int(table[entry])
        else:
            other = 0 if entry == NO_OTHER else int(table.ctypes.data) + 8 * table_at(entry)
        return int(table[x]), other, int(table[out])

    def run_one(self, number: int, table: NDArray[np.int64], pool: ThreadPool) -> None:
        """Run launch `number` alone."""
        self._launches[number].launch.run_at(*self.addresses(number, table), pool)
