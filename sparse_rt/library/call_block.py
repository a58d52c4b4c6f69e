"""A bound segment as the block of words that a kernel runs; see :mod:`sparse_rt_kernels.custom_op.words.call`."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sparse_rt_kernels.custom_op.words import call
from sparse_rt_kernels.threads.workspace import address_of

from sparse_rt.plan.bind.bound_segment import BoundSegment

__all__ = ["CallBlock"]

_WORD = 8


class CallBlock:
    """The words of a call, and all that they point to.

    Parameters
    ----------
    bound
        What is called.
    inputs, outputs
        Names of the arrays that it reads and writes, in the kernel's order.
    shapes
        Of the inputs.
    threads
        That it was bound for.
    """

    def __init__(
        self,
        bound: BoundSegment,
        inputs: Sequence[str],
        outputs: Sequence[str],
        shapes: Sequence[tuple[int, ...]],
        threads: int,
    ) -> None:
        self.bound = bound
        self.words: NDArray[np.int64] = np.zeros(call.COUNT, np.int64)
        self._kept: list[NDArray[np.int64]] = []
        self._put(call.KEY, call.KEY_COUNT, [word for shape in shapes for word in (len(shape), *shape)], 1)
        self._put(call.OFFSETS, call.OFFSET_COUNT, bound.offsets.tolist(), 1)
        reads = [word for number, entries in enumerate(bound.read) for entry in entries for word in (number, entry)]
        self._put(call.READS, call.READ_COUNT, reads, 2)
        self._put_outputs(inputs, outputs)
        for place, value in (
            (call.SEQUENCE, bound.sequence.header),
            (call.ARENA_BYTES, bound.nbytes),
            (call.THREADS, threads),
        ):
            self.words[place // _WORD] = value

    @property
    def address(self) -> int:
        """Of the words."""
        return address_of(self.words)

    @property
    def is_kept(self) -> bool:
        """Whether it is in a kernel's list."""
        return bool(self.words[call.IS_KEPT // _WORD])

    def link(self, following: int) -> None:
        """Name the call that follows in a kernel's list, and so make this one stay."""
        self.words[call.NEXT // _WORD] = following
        self.words[call.IS_KEPT // _WORD] = 1

    def _put_outputs(self, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        places = {name: number for number, name in enumerate(outputs)}
        shapes: dict[str, tuple[int, ...]] = {}
        nbytes: dict[str, int] = {}
        entries_of: dict[str, tuple[int, ...]] = {}
        for name, shape, dtype, entries in self.bound.written:
            shapes[name], nbytes[name], entries_of[name] = shape, math.prod(shape) * dtype.itemsize, entries
        # Where an array's holder is: an input, an output, or the first output that is another shape of it.
        holders = {name: number for number, name in enumerate(inputs)}
        holders.update({name: -1 - places[name] for name in entries_of if name in places})
        copies: list[int] = []
        for name, origin, shape in self.bound.views:
            shapes[name] = shape
            if origin in holders:
                copies += [holders[origin], places[name], self._nbytes(name, origin, shape, nbytes)]
            else:
                holders[origin] = -1 - places[name]
        writes = [
            word for name, entries in entries_of.items() for entry in entries for word in (-1 - holders[name], entry)
        ]
        self._put(call.WRITES, call.WRITE_COUNT, writes, 2)
        self._put(call.COPIES, call.COPY_COUNT, copies, 3)
        sizes = [self._keep(shapes[name]) for name in outputs]
        rows = [word for name, row in zip(outputs, sizes, strict=True) for word in (len(shapes[name]), address_of(row))]
        self._put(call.OUTPUTS, call.OUTPUT_COUNT, rows, 2)

    def _nbytes(self, name: str, origin: str, shape: tuple[int, ...], nbytes: dict[str, int]) -> int:
        if origin in nbytes:
            return nbytes[origin]
        step = next(step for step in self.bound.steps if step.y == name)
        return math.prod(shape) * step.y_dtype.itemsize

    def _put(self, place: int, count_place: int, words: Sequence[int], of_each: int) -> None:
        self.words[place // _WORD] = address_of(self._keep(words))
        self.words[count_place // _WORD] = len(words) // of_each

    def _keep(self, words: Sequence[Any]) -> NDArray[np.int64]:
        # An empty array may have no address of its own.
        kept: NDArray[np.int64] = np.array([*words, 0], np.int64)
        self._kept.append(kept)
        return kept
