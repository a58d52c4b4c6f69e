"""One operator without weights between layers, on a kernel of ours."""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from sparse_rt_kernels.threads.launch import Launch
from sparse_rt_kernels.threads.pool import ThreadPool

from sparse_rt.errors import FeedError, message
from sparse_rt.plan.steps.base import StepBase
from sparse_rt.plan.steps.calls import Calls
from sparse_rt.plan.steps.step import Environment, Shape, StepCall

__all__ = ["OperatorStep", "count_of"]

#: The ends of shapes that broadcast to any number of columns.
_NARROW = ((), (1,))
_Size = TypeVar("_Size", bound=int | None)
#: The shape of y, and what computes it; None where there is nothing to compute.
_Call = tuple[tuple[int, ...], Launch | None]


def count_of(shape: tuple[int, ...]) -> int:
    """Return the number of elements of a shape."""
    return math.prod(shape)


def _broadcast_shape(shapes: Sequence[Shape | None]) -> Shape | None:
    """Return what shapes are broadcast to; None if a size is unknown, or if only a run can tell what is wrong."""
    known = [tuple(size for size in shape if size is not None) for shape in shapes if shape is not None]
    if [len(shape or ()) for shape in shapes] != [len(shape) for shape in known]:
        return None
    try:
        return np.broadcast_shapes(*known)
    except ValueError:
        return None


@dataclass(frozen=True, eq=False, slots=True)
class OperatorStep(StepBase):
    """Run one operator of one or two inputs through a kernel; two are broadcast to one shape.

    Attributes
    ----------
    shape_of
        y's shape for x's; raises ValueError with what was expected where x does not fit.
    prepare
        ``prepare(shape of x, shape of y, threads)`` returns the launch.
    is_in_place
        Whether the kernel reads no element after it has written that place, so that y may lie where an input lies.
    columns
        To how many elements a last axis of one is broadcast first, as a constant vector of the step demands; 0: not.
    alike, constants
        What tells its calls from those of other steps, and the addresses of what belongs to it alone; see
        :class:`BindableStep`. None where calls hold data of its own in other ways.
    """

    shape_of: Callable[[Shape], Shape]
    prepare: Callable[[tuple[int, ...], tuple[int, ...], int], Launch]
    is_in_place: bool = False
    columns: int = 0
    alike: Hashable | None = None
    constants: tuple[int, ...] = ()
    _calls: Calls[_Call] = field(default_factory=Calls, init=False, repr=False)

    @property
    def overwrites(self) -> tuple[str, ...]:
        """Names of inputs over which it may write its output."""
        return self.inputs if self.is_in_place else ()

    def is_bindable(self, shapes: Mapping[str, tuple[int, ...]]) -> bool:
        """Return whether shapes are all that a call depends on: not where operands are known to be broadcast."""
        known = {shapes[name] for name in self.inputs if name in shapes}
        return len(known) < 2 and all(self._widened(shape) == shape for shape in known)

    def bind(self, shapes: Sequence[tuple[int, ...]], threads: int) -> StepCall | None:
        """Return the call for inputs of `shapes`; None if they have to be broadcast. Raises FeedError."""
        if any(shape != shapes[0] for shape in shapes) or self._widened(shapes[0]) != shapes[0]:
            return None
        y_shape, call = self._prepare(shapes[0], threads)
        return StepCall(y_shape, call)

    def run(self, values: Environment, pool: ThreadPool, run_options: Any = None) -> None:
        """Compute y.

        Raises
        ------
        FeedError
            A value has the wrong dtype or shape.
        """
        arrays = self.checked(values)
        if len(arrays) > 1 and arrays[0].shape != arrays[1].shape:
            arrays = self._broadcast(arrays)
        if self.columns and arrays[0].shape[-1:] in _NARROW:
            arrays = [np.ascontiguousarray(np.broadcast_to(x, self._widened(x.shape))) for x in arrays]
        y_shape, launch = self._call(arrays[0].shape, pool.threads)
        y = self.empty_y(y_shape)
        if launch is not None:
            launch.run(arrays[0], y, pool, *arrays[1:])
        values[self.y] = y

    def call_for(self, shape: tuple[int, ...], threads: int) -> Launch | None:
        """Prepare the call for an x of `shape`, so that runs find it; None where there is nothing to call."""
        return self._call(self._widened(shape), threads)[1]

    def output_shape(self, shapes: Sequence[Shape | None]) -> Shape | None:
        """Return y's shape for inputs whose sizes may be partly unknown (None); None where nothing is known of it."""
        shape = shapes[0] if len(shapes) == 1 else _broadcast_shape(shapes)
        return None if shape is None else self._y_shape(self._widened(shape))

    def _widened(self, shape: tuple[_Size, ...]) -> tuple[_Size | int, ...]:
        """Return the shape that x has after it was broadcast to the step's columns."""
        return (*shape[:-1], self.columns) if self.columns and shape[-1:] in _NARROW else shape

    def _y_shape(self, shape: Shape) -> Shape:
        try:
            return self.shape_of(shape)
        except ValueError as error:
            raise FeedError(message(self.where, str(error), f"shape {shape}")) from error

    def _broadcast(self, arrays: list[NDArray[Any]]) -> list[NDArray[Any]]:
        try:
            return [np.ascontiguousarray(array) for array in np.broadcast_arrays(*arrays)]
        except ValueError as error:
            got = " and ".join(str(array.shape) for array in arrays)
            raise FeedError(message(self.where, "two shapes that broadcast", got)) from error

    def _call(self, shape: tuple[int, ...], threads: int) -> _Call:
        key = (threads, *shape)
        return self._calls.get(key) or self._calls.keep(key, self._prepare(shape, threads))

    def _prepare(self, shape: tuple[int, ...], threads: int) -> _Call:
        y_shape = tuple(size for size in self._y_shape(shape) if size is not None)
        self.empty_y(y_shape)
        # A kernel is not called for nothing.
        return y_shape, self.prepare(shape, y_shape, threads) if math.prod(y_shape) and math.prod(shape) else None
