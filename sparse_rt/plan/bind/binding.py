"""Bind steps in a row to shapes: steps that are alike are prepared once, their launches filled all at once."""

import math
from collections.abc import Hashable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from sparse_rt_kernels.threads.launch import Launch
from sparse_rt_kernels.threads.launch_family import LaunchFamily, is_model
from sparse_rt_kernels.threads.sequence import Batch, LaunchSequence

from sparse_rt.plan.bind.bound_segment import BoundSegment
from sparse_rt.plan.bind.grouping import Calls, Frame, Group, Grouping, Misfit
from sparse_rt.plan.bind.placement import LAUNCHES, NOTHING, VIEWS, Placement
from sparse_rt.plan.steps.step import BindableStep, StepCall

__all__ = ["Binder"]

#: Sets of sizes in which other values share an array, or other steps have nothing to compute; in practice there is one.
_MOST_LAYOUTS = 8
#: Ways in which shapes are equal to each other; the first one may have been an accident.
_MOST_GROUPINGS = 4


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
        numbers: dict[Hashable, int] = {}
        # A step that is like no other is a kind of its own; ints are no kinds.
        self._kinds = [
            numbers.setdefault(number if (alike := step.alike) is None else alike, number)
            for number, step in enumerate(self._steps)
        ]
        self._itemsizes = [step.y_dtype.itemsize for step in self._steps]
        self._groupings: tuple[Grouping, ...] = ()
        self._layouts: dict[bytes, Placement] = {}

    def bind(self, shapes: Mapping[str, tuple[int, ...]], threads: int, is_draft: bool = False) -> BoundSegment | None:
        """Return the segment for inputs of `shapes`; None where a step has no native call.

        Raises
        ------
        FeedError
            No inputs of these shapes can be computed.
        """
        given = [shapes[name] for name in self._inputs]
        for grouping in self._groupings:
            calls = grouping.calls(given, threads)
            if not isinstance(calls, Misfit):
                return None if calls is None else self._bound(grouping, calls, threads, is_draft)
        found = self._group(given, threads)
        if found is None:
            return None
        self._groupings = (found[0], *self._groupings)[:_MOST_GROUPINGS]
        return self._bound(*found, threads, is_draft)

    def _group(self, given: Sequence[tuple[int, ...]], threads: int) -> tuple[Grouping, Calls] | None:
        """Walk over all steps, and return which of them do the same, and what."""
        classes: dict[tuple[int, ...], int] = {}
        of_values = {
            name: classes.setdefault(shape, len(classes)) for name, shape in zip(self._inputs, given, strict=True)
        }
        shapes = list(classes)
        found: dict[tuple[int, tuple[int, ...]], tuple[StepCall, int, list[int]]] = {}
        for number, step in enumerate(self._steps):
            read = tuple([of_values[name] for name in step.inputs])
            key = self._kinds[number], read
            group = found.get(key)
            if group is None:
                call = step.bind([shapes[each] for each in read], threads)
                if call is None:
                    return None
                y = classes.setdefault(call.y_shape, len(classes))
                if y == len(shapes):
                    shapes.append(call.y_shape)
                group = found[key] = call, y, []
            group[2].append(number)
            of_values[step.y] = group[1]
        groups = [
            Group(np.array(numbers, np.int64), read, y, self._constants(numbers))
            for (_, read), (_, y, numbers) in found.items()
        ]
        inputs = tuple([of_values[name] for name in self._inputs])
        grouping = Grouping(self._steps, inputs, of_values, groups)
        return grouping, Calls(tuple(call for call, *_ in found.values()), tuple(shapes))

    def _constants(self, numbers: Sequence[int]) -> NDArray[np.int64]:
        rows = [self._steps[number].constants for number in numbers]
        return np.array(rows, np.int64).reshape(len(rows), -1)

    def _bound(self, grouping: Grouping, calls: Calls, threads: int, is_draft: bool) -> BoundSegment:
        kinds = tuple([_kind(call) for call in calls.of_groups])
        frame = grouping.frame(kinds)
        nbytes_of_groups = [
            math.prod(call.y_shape) * self._itemsizes[group.numbers[0]]
            for call, group in zip(calls.of_groups, grouping.groups, strict=True)
        ]
        bytes_written = np.array(nbytes_of_groups, np.int64)[grouping.of_steps]
        layout = self._layout(frame.kinds, bytes_written)
        offsets, nbytes = layout.places(bytes_written)
        shapes, classes = calls.shapes, grouping.classes
        return BoundSegment(
            sequence=LaunchSequence.of_batches(self._batches(grouping, calls, frame, threads), layout.entries),
            offsets=offsets,
            nbytes=nbytes,
            read=layout.read,
            written=tuple(
                [
                    (name, shapes[classes[name]], self._steps[writer].y_dtype, entries)
                    for name, writer, entries in layout.written
                ]
            ),
            views=tuple([(name, origin, shapes[classes[name]]) for name, origin, _ in layout.views]),
            steps=self._steps,
            groups=grouping.of_steps,
            y_shapes=tuple(
                [call.y_shape if kind == LAUNCHES else None for call, kind in zip(calls.of_groups, kinds, strict=True)]
            ),
            is_draft=is_draft,
        )

    def _layout(self, kinds: bytes, nbytes: NDArray[np.int64]) -> Placement:
        layout = self._layouts.get(kinds)
        if layout is None or not layout.fits(nbytes):
            layout = Placement(self._steps, self._inputs, self._outputs, kinds, nbytes)
            if len(self._layouts) < _MOST_LAYOUTS:
                self._layouts[kinds] = layout
        return layout

    def _batches(self, grouping: Grouping, calls: Calls, frame: Frame, threads: int) -> list[Batch]:
        found = []
        for group, call, places in zip(grouping.groups, calls.of_groups, frame.places, strict=True):
            launch = call.launch
            if launch is None:
                continue
            if len(places) == 1 or not group.constants.size:
                # Of many, nothing tells them apart but the arrays: one launch does for all.
                found.append(Batch(launch, places))
            elif is_model(launch):
                found.append(Batch(LaunchFamily(launch, group.constants), places))
            else:
                found.extend(self._apart(group, launch, places, calls.shapes, threads))
        return found

    def _apart(
        self,
        group: Group,
        launch: Launch,
        places: NDArray[np.int64],
        shapes: Sequence[tuple[int, ...]],
        threads: int,
    ) -> list[Batch]:
        """Prepare the launch of each step of a group by itself."""
        found = [Batch(launch, places[:1])]
        for number, place in zip(group.numbers[1:].tolist(), places[1:].tolist(), strict=True):
            step = self._steps[number]
            one = step.bind([shapes[each] for each in group.inputs], threads)
            if one is None or one.launch is None:
                raise TypeError(f"step '{step.y}': expected the call of a step that is like it, got none.")
            found.append(Batch(one.launch, np.array([place], np.int64)))
        return found


def _kind(call: StepCall) -> int:
    return VIEWS if call.is_view else NOTHING if call.launch is None else LAUNCHES
