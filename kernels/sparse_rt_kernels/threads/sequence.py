"""Launches one after the other in one call, so that a run of many layers does not pass through Python between them."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from sparse_rt_kernels.threads.launch import Launch, LaunchRunner
from sparse_rt_kernels.threads.launch_family import LaunchFamily
from sparse_rt_kernels.threads.workspace import address_of

__all__ = ["NO_OTHER", "Batch", "Bound", "LaunchSequence", "SequenceRunner", "table_at"]

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


class Batch(NamedTuple):
    """Launches that are made at once, and the places of each in a sequence, ascending."""

    launches: Launch | LaunchFamily
    numbers: NDArray[np.int64]


class SequenceRunner(LaunchRunner, Protocol):
    """What runs sequences: :class:`.pool.ThreadPool`."""

    def launch_sequence(self, sequence: LaunchSequence, first: int, table: NDArray[np.int64]) -> int | None:
        """Run launches from `first` on; return the number of the one that is to be repeated, the last that was run."""


class LaunchSequence:
    """Launches in order, on arrays whose addresses a table holds. Immutable: several threads may run it at once.

    Parameters
    ----------
    launches
        In order; one begins when all tasks of the one before have ended.
    """

    def __init__(self, launches: Sequence[Bound]) -> None:
        entries = np.array([bound[1:] for bound in launches], np.int64).reshape(-1, 3)
        self._fill([Batch(bound.launch, np.array([number])) for number, bound in enumerate(launches)], entries)

    @classmethod
    def of_batches(cls, batches: Sequence[Batch], entries: NDArray[np.int64]) -> LaunchSequence:
        """Return the sequence of batches, which together fill it.

        Parameters
        ----------
        batches
            In any order.
        entries
            (launches, 3): `x`, `other` and `out` of each as :class:`Bound` has them.
        """
        sequence = cls.__new__(cls)
        sequence._fill(batches, entries)
        return sequence

    def _fill(self, batches: Sequence[Batch], entries: NDArray[np.int64]) -> None:
        self._batches = tuple(batches)
        self._entries = entries
        self._words: NDArray[np.int64] = np.empty((len(entries), 5), np.int64)
        self._words[:, 2:] = entries
        addresses, counts = self._words[:, 0], self._words[:, 1]
        shared_bytes, stride, width = [0], [0], [0]
        for launches, numbers in self._batches:
            if isinstance(launches, LaunchFamily):
                addresses[numbers] = launches.addresses
                model = launches.model
            else:
                addresses[numbers] = launches.address
                model = launches
            counts[numbers] = model.count
            shared_bytes.append(model.shared_bytes)
            stride.append(model.stride)
            width.append(model.width)
        self.count = len(entries)
        self.shared_bytes = max(shared_bytes)
        self.stride = max(stride)
        words = (address_of(self._words), self.count, self.shared_bytes, self.stride)
        self._header: NDArray[np.int64] = np.array(words, np.int64)
        #: Address of the sequence as :func:`.dispatch.dispatch_sequence` takes it.
        self.header = address_of(self._header)
        #: The most tasks that any phase of any launch can run at once.
        self.width = max(width)

    @property
    def nbytes(self) -> int:
        """Resident bytes, roughly; the entries may be shared."""
        return self._words.nbytes + sum(batch.launches.nbytes for batch in self._batches)

    @property
    def launches(self) -> list[Launch]:
        """All launches, in order."""
        return [self._launch(number) for number in range(self.count)]

    def run(self, table: NDArray[np.int64], pool: SequenceRunner) -> None:
        """Run all launches on the arrays whose addresses `table` holds."""
        first = 0
        while first < self.count:
            stopped = pool.launch_sequence(self, first, table)
            if stopped is None:
                return
            launch = self._launch(stopped)
            launch.repeat_at(*self.addresses(stopped, table), pool)
            first = stopped + 1

    def addresses(self, number: int, table: NDArray[np.int64]) -> tuple[int, int, int]:
        """Return the addresses of x, other and out that launch `number` gets."""
        x, entry, out = self._entries[number].tolist()
        if entry >= 0:
            other = int(table[entry])
        else:
            other = 0 if entry == NO_OTHER else int(table.ctypes.data) + 8 * table_at(entry)
        return int(table[x]), other, int(table[out])

    def run_one(self, number: int, table: NDArray[np.int64], pool: LaunchRunner) -> None:
        """Run launch `number` alone."""
        self._launch(number).run_at(*self.addresses(number, table), pool)

    def _launch(self, number: int) -> Launch:
        """Return launch `number`, which runs alone."""
        launches, member = self._owners[number]
        return launches.launch(member) if isinstance(launches, LaunchFamily) else launches

    @functools.cached_property
    def _owners(self) -> dict[int, tuple[Launch | LaunchFamily, int]]:
        """For each launch the batch that it is of, and its place there."""
        return {
            number: (launches, member)
            for launches, numbers in self._batches
            for member, number in enumerate(numbers.tolist())
        }
