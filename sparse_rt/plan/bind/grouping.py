"""Which steps of a segment do the same to arrays of the same shapes: found once, and looked up for other shapes."""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparse_rt.plan.bind.placement import LAUNCHES
from sparse_rt.plan.steps.step import BindableStep, StepCall

__all__ = ["MISFIT", "Calls", "Frame", "Group", "Grouping", "Misfit"]


class Misfit:
    """The type of :data:`MISFIT`."""


#: What :meth:`Grouping.calls` returns for shapes that are equal elsewhere than those that it was found with.
MISFIT: Final = Misfit()


class Group(NamedTuple):
    """Steps that are alike and read arrays of the same shapes.

    Attributes
    ----------
    numbers
        Theirs, ascending.
    inputs, y
        The classes of the values that they read, and write.
    constants
        (steps, constants), the addresses of what belongs to each.
    """

    numbers: NDArray[np.int64]
    inputs: tuple[int, ...]
    y: int
    constants: NDArray[np.int64]


class Calls(NamedTuple):
    """What each group does for inputs of some shapes, and the shape of the values of each class."""

    of_groups: tuple[StepCall, ...]
    shapes: tuple[tuple[int, ...], ...]


class Frame(NamedTuple):
    """What follows from whether each group launches something.

    Attributes
    ----------
    kinds
        For each step :data:`LAUNCHES`, :data:`NOTHING` or :data:`VIEWS`.
    places
        For each group where in the sequence of all launches those of its steps stand, if they do launch something.
    """

    kinds: bytes
    places: tuple[NDArray[np.int64], ...]


class Grouping:
    """Groups of steps, in order of their first ones, and classes of values that have the same shape.

    That values of a class have the same shape was so once. For other shapes :meth:`calls` makes certain, group by
    group: what the first step of a group reads has been written by groups before, each of which wrote what its class
    says. So a new shape costs a call for each group, not for each step.

    Parameters
    ----------
    steps
        Of the segment.
    inputs
        The classes of its inputs.
    classes
        The class of each value.
    groups
        In order of their first steps.
    """

    def __init__(
        self,
        steps: Sequence[BindableStep],
        inputs: tuple[int, ...],
        classes: Mapping[str, int],
        groups: Sequence[Group],
    ) -> None:
        self._inputs = inputs
        self._firsts = tuple((steps[int(group.numbers[0])], group.inputs, group.y) for group in groups)
        self._frames: dict[tuple[int, ...], Frame] = {}
        self._count = len(set(classes.values()))
        self.classes = dict(classes)
        self.groups = tuple(groups)
        #: For each step the number of its group.
        self.of_steps: NDArray[np.int64] = np.empty(len(steps), np.int64)
        for number, group in enumerate(groups):
            self.of_steps[group.numbers] = number

    def calls(self, given: Sequence[tuple[int, ...]], threads: int) -> Calls | Misfit | None:
        """Return what to do for inputs of the shapes `given`; None where a step has no native call.

        :data:`MISFIT` where values of one class have different shapes. Raises FeedError.
        """
        shapes: list[tuple[int, ...] | None] = [None] * self._count
        for number, shape_given in zip(self._inputs, given, strict=True):
            if shapes[number] is None:
                shapes[number] = shape_given
            elif shapes[number] != shape_given:
                return MISFIT
        found = []
        for step, inputs, y in self._firsts:
            read = [shape for each in inputs if (shape := shapes[each]) is not None]
            call = step.bind(read, threads)
            if call is None:
                return None
            if shapes[y] is None:
                shapes[y] = call.y_shape
            elif shapes[y] != call.y_shape:
                return MISFIT
            found.append(call)
        return Calls(tuple(found), tuple([shape for shape in shapes if shape is not None]))

    def frame(self, kinds: tuple[int, ...]) -> Frame:
        """Return what follows from the kinds of calls of all groups."""
        found = self._frames.get(kinds)
        if found is None:
            of_steps = np.array(kinds, np.uint8)[self.of_steps]
            order = np.cumsum(of_steps == LAUNCHES) - 1
            places = tuple(order[group.numbers] for group in self.groups)
            found = self._frames[kinds] = Frame(of_steps.tobytes(), places)
        return found
