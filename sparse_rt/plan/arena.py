"""One block of memory for the values between steps: where each lies, and who uses the block."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sparse_rt_kernels.workspace import ALIGNMENT, aligned_empty

__all__ = ["Arena", "ArenaPool", "Lifetime", "place"]


class Lifetime(NamedTuple):
    """A value of `nbytes` that step `first` writes and step `last` is the last to read."""

    nbytes: int
    first: int
    last: int


def place(lifetimes: Sequence[Lifetime]) -> tuple[tuple[int, ...], int]:
    """Return an offset for each value, and the bytes of the whole block.

    Values that live at the same time do not overlap; offsets are multiples of 64. Greedy by size: the largest value
    first, each in the lowest gap that holds it (Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net
    Inference", 2020, section 5.3).
    """
    offsets = [0] * len(lifetimes)
    placed: list[int] = []
    total = 0
    for one in sorted(range(len(lifetimes)), key=lambda index: -lifetimes[index].nbytes):
        value = lifetimes[one]
        nbytes = -(-value.nbytes // ALIGNMENT) * ALIGNMENT
        offset = 0
        for other in placed:  # ascending offsets
            rival = lifetimes[other]
            if rival.last < value.first or rival.first > value.last:
                continue
            if offset + nbytes <= offsets[other]:
                break
            offset = max(offset, offsets[other] + -(-rival.nbytes // ALIGNMENT) * ALIGNMENT)
        offsets[one] = offset
        total = max(total, offset + nbytes)
        placed.append(one)
        placed.sort(key=lambda index: offsets[index])
    return tuple(offsets), total


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
