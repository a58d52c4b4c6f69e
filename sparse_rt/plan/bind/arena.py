"""One block of memory for the values between steps: where each lies, and who uses the block."""

import bisect
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sparse_rt_kernels.threads.workspace import ALIGNMENT, aligned_empty

__all__ = ["Arena", "ArenaPool", "Lifetime", "place"]


#: Up to how many values, summed over the steps during which each of them lives, are placed by size.
_MOST_ALIVE: Final = 1 << 10
_MOST_ALIVE_EACH: Final = 32


class Lifetime(NamedTuple):
    """A value of `nbytes` that step `first` writes and step `last` is the last to read."""

    nbytes: int
    first: int
    last: int


def place(lifetimes: Sequence[Lifetime]) -> tuple[tuple[int, ...], int]:
    """Return an offset for each value, and the bytes of the whole block.

    Values that live at the same time do not overlap; offsets are multiples of 64. Greedy by size: the largest value
    first, each in the lowest gap that holds it (Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net
    Inference", 2020, section 5.3). Where so many live at once that this would take long, they are placed in the order
    in which they are written, each in the smallest gap that holds it.
    """
    alive = sum(one.last - one.first + 1 for one in lifetimes)
    if alive > _MOST_ALIVE + _MOST_ALIVE_EACH * len(lifetimes):
        return _in_order(lifetimes)
    return _by_size(lifetimes)


def _aligned(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def _by_size(lifetimes: Sequence[Lifetime]) -> tuple[tuple[int, ...], int]:
    offsets = [0] * len(lifetimes)
    #: By step: the values that live then and have a place; by step: those of them that it writes.
    alive: dict[int, list[int]] = {}
    written: dict[int, list[int]] = {}
    total = 0
    for one in sorted(range(len(lifetimes)), key=lambda index: -lifetimes[index].nbytes):
        value = lifetimes[one]
        nbytes = _aligned(value.nbytes)
        neighbours = list(alive.get(value.first, ()))
        for step in range(value.first + 1, value.last + 1):
            neighbours.extend(written.get(step, ()))
        neighbours.sort(key=offsets.__getitem__)
        offset = 0
        for other in neighbours:
            if offset + nbytes <= offsets[other]:
                break
            offset = max(offset, offsets[other] + _aligned(lifetimes[other].nbytes))
        offsets[one] = offset
        total = max(total, offset + nbytes)
        written.setdefault(value.first, []).append(one)
        for step in range(value.first, value.last + 1):
            alive.setdefault(step, []).append(one)
    return tuple(offsets), total


def _in_order(lifetimes: Sequence[Lifetime]) -> tuple[tuple[int, ...], int]:
    offsets = [0] * len(lifetimes)
    ends: dict[int, list[int]] = {}
    for index, value in enumerate(lifetimes):
        ends.setdefault(value.last, []).append(index)
    gaps, total, ended = _Gaps(), 0, sorted(ends, reverse=True)
    for one in sorted(range(len(lifetimes)), key=lambda index: lifetimes[index].first):
        value = lifetimes[one]
        while ended and ended[-1] < value.first:
            for other in ends[ended.pop()]:
                gaps.add(offsets[other], _aligned(lifetimes[other].nbytes))
        nbytes = _aligned(value.nbytes)
        offset = gaps.take(nbytes)
        if offset is None:
            offset = gaps.take_end(total)
            total = offset + nbytes
        offsets[one] = offset
    return tuple(offsets), total


class _Gaps:
    """The free places below the end of a block, neighbours merged."""

    def __init__(self) -> None:
        self._by_size: list[tuple[int, int]] = []
        self._sizes: dict[int, int] = {}
        self._starts: dict[int, int] = {}

    def add(self, offset: int, nbytes: int) -> None:
        """Free a place."""
        if not nbytes:
            return
        before = self._starts.get(offset)
        if before is not None:
            nbytes += self._remove(before)
            offset = before
        if offset + nbytes in self._sizes:
            nbytes += self._remove(offset + nbytes)
        self._sizes[offset] = nbytes
        self._starts[offset + nbytes] = offset
        bisect.insort(self._by_size, (nbytes, offset))

    def take(self, nbytes: int) -> int | None:
        """Return where `nbytes` fit best, from now on in use; None where they fit nowhere."""
        at = bisect.bisect_left(self._by_size, (nbytes, -1))
        if not nbytes or at == len(self._by_size):
            return None if nbytes else 0
        found, offset = self._by_size[at]
        self._remove(offset)
        self.add(offset + nbytes, found - nbytes)
        return offset

    def take_end(self, end: int) -> int:
        """Return where the free place before `end` begins, from now on in use; `end` if there is none."""
        offset = self._starts.get(end)
        if offset is None:
            return end
        self._remove(offset)
        return offset

    def _remove(self, offset: int) -> int:
        nbytes = self._sizes.pop(offset)
        del self._starts[offset + nbytes]
        del self._by_size[bisect.bisect_left(self._by_size, (nbytes, offset))]
        return nbytes


class Arena(NamedTuple):
    """A block of memory and its address, a multiple of 64."""

    memory: NDArray[np.uint8]
    address: int


class ArenaPool:
    """Blocks of memory for runs: one run uses one at a time, and the next run finds it again.

    As many are kept as runs have been under way at once, each as large as the largest need so far.
    """

    def __init__(self) -> None:
        # list.pop and list.append are atomic, so that no lock is needed.
        self._free: list[Arena] = []

    def acquire(self, nbytes: int) -> Arena:
        """Return a block of at least `nbytes` that nobody else uses; raises MemoryError."""
        try:
            arena = self._free.pop()
        except IndexError:
            arena = None
        if arena is None or arena.memory.size < nbytes:
            memory = aligned_empty(nbytes)
            arena = Arena(memory, int(memory.ctypes.data))
        return arena

    def release(self, arena: Arena) -> None:
        """Give a block back."""
        self._free.append(arena)
