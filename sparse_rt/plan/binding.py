"""Bind steps in a row to shapes: steps that are alike are prepared once, their launches filled all at once."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sparse_rt_kernels.launch_family import LaunchFamily, is_model
from sparse_rt_kernels.sequence import Batch, LaunchSequence

from sparse_rt.plan.bound_segment import BoundSegment
from sparse_rt.plan.memory_layout import LAUNCHES, NOTHING, VIEWS, MemoryLayout
from sparse_rt.plan.step import BindableStep, StepCall

__all__ = ["Binder"]

#: Sets of sizes in which other values share an array, or other steps have nothing to compute; in practice there is one.
_MOST_LAYOUTS = 8


class _Kind:
    """Steps that are alike: their numbers in a row, and the addresses of what belongs to each."""

    def __init__(self) -> None:
        self.rows: dict[int, int] = {}
        self.constants: list[tuple[int, ...]] = []
        self._table: NDArray[np.int64] | None = None

    def add(self, number: int, constants: tuple[int, ...]) -> None:
        self.rows[number] = len(self.constants)
        self.constants.append(constants)

    def of(self, numbers: Sequence[int]) -> NDArray[np.int64]:
        """Return (steps, constants) for some of them."""
        if self._table is None:
            self._table = np.array(self.constants, np.int64).reshape(len(self.constants), -1)
        if len(numbers) == len(self.rows):
            return self._table
        return self._table[[self.rows[number] for number in numbers]]


class Binder:
    """Binds the steps of a segment, laid out in one way, to shapes.

    Parameters
    ----------
    steps
        In order.
    inputs, outputs
        Names of the values that they read and none of them writes, and of those that others read.
    """

    def __init__(self, steps: Sequence[BindableStep], inputs: tuple[str, ...], outputs: tuple[str, ...]) -> None:
        self._steps = tuple(steps)
        self._inputs, self._outputs = inputs, outputs
        self._kinds: list[_Kind] = []
        numbers: dict[Hashable, int] = {}
        self._rows: list[tuple[int, tuple[str, ...], str]] = []
        for number, step in enumerate(self._steps):
            alike = step.alike
            # A step that is like no other is a kind of its own; ints are no kinds.
            kind = numbers.setdefault(number if alike is None else alike, len(self._kinds))
            if kind == len(self._kinds):
                self._kinds.append(_Kind())
            self._kinds[kind].add(number, step.constants)
            self._rows.append((kind, step.inputs, step.y))
        self._layouts: dict[bytes, MemoryLayout] = {}

    def bind(self, shapes: Mapping[str, tuple[int, ...]], threads: int, is_draft: bool = False) -> BoundSegment | None:
        """Return the segment for inputs of `shapes`; None where a step has no native call.

        Raises
        ------
        FeedError
            No inputs of these shapes can be computed.
        """
        known = dict(shapes)
        alike: dict[Hashable, tuple[int, StepCall, list[int]]] = {}
        for number, (kind, inputs, y) in enumerate(self._rows):
            read = tuple([known[name] for name in inputs])
            key = (kind, read)
            found = alike.get(key)
            if found is None:
                call = self._steps[number].bind(read, threads)
                if call is None:
                    return None
                found = alike[key] = (kind, call, [])
            found[2].append(number)
            known[y] = found[1].y_shape
        return self._bound(list(alike.values()), known, threads, is_draft)

    def _bound(
        self,
        alike: Sequence[tuple[int, StepCall, list[int]]],
        shapes: Mapping[str, tuple[int, ...]],
        threads: int,
        is_draft: bool,
    ) -> BoundSegment:
        kinds = bytearray(len(self._steps))
        sizes = [0] * len(self._steps)
        for _, call, numbers in alike:
            what = VIEWS if call.is_view else NOTHING if call.launch is None else LAUNCHES
            nbytes = self._nbytes(numbers[0], call.y_shape)
            for number in numbers:
                kinds[number], sizes[number] = what, nbytes
        bytes_written = np.array(sizes, np.int64)
        layout = self._layout(bytes(kinds), bytes_written)
        offsets, nbytes = layout.places(bytes_written)
        # Where in the sequence the launch of each step stands.
        order = (np.cumsum(np.frombuffer(bytes(kinds), np.uint8) == LAUNCHES) - 1).tolist()
        batches = [
            batch
            for kind, call, numbers in alike
            if call.launch is not None
            for batch in self._batches(kind, call, numbers, shapes, threads, order)
        ]
        return BoundSegment(
            sequence=LaunchSequence.of_batches(batches, layout.entries),
            offsets=offsets,
            nbytes=nbytes,
            read=layout.read,
            written=tuple(
                (name, shapes[name], self._steps[writer].y_dtype, entries) for name, writer, entries in layout.written
            ),
            views=tuple((name, origin, shapes[name]) for name, origin, _ in layout.views),
            steps=self._steps,
            y_shapes=tuple(
                shapes[step.y] if kind == LAUNCHES else None for step, kind in zip(self._steps, kinds, strict=True)
            ),
            is_draft=is_draft,
        )

    def _nbytes(self, number: int, shape: tuple[int, ...]) -> int:
        count = 1
        for size in shape:
            count *= size
        return count * self._steps[number].y_dtype.itemsize

    def _layout(self, kinds: bytes, nbytes: NDArray[np.int64]) -> MemoryLayout:
        layout = self._layouts.get(kinds)
        if layout is None or not layout.fits(nbytes):
            layout = MemoryLayout(self._steps, self._inputs, self._outputs, kinds, nbytes)
            if len(self._layouts) < _MOST_LAYOUTS:
                self._layouts[kinds] = layout
        return layout

    def _batches(
        self,
        kind: int,
        call: StepCall,
        numbers: list[int],
        shapes: Mapping[str, tuple[int, ...]],
        threads: int,
        order: Sequence[int],
    ) -> list[Batch]:
        """Return the launches of steps that are alike and read arrays of the same shapes."""
        launch: Any = call.launch
        places = [order[number] for number in numbers]
        if len(numbers) == 1:
            return [Batch(launch, places)]
        if not self._steps[numbers[0]].constants:
            # Nothing tells them apart but the arrays: one launch does for all.
            return [Batch(launch, places)]
        if is_model(launch):
            return [Batch(LaunchFamily(launch, self._kinds[kind].of(numbers)), places)]
        found = [Batch(launch, places[:1])]
        for number, place in zip(numbers[1:], places[1:], strict=True):
            step = self._steps[number]
            one = step.bind([shapes[name] for name in step.inputs], threads)
            if one is None or one.launch is None:
                raise TypeError(f"step '{step.y}': expected the call of a step that is like it, got none.")
            found.append(Batch(one.launch, [place]))
        return found
