"""Arrays put together along an axis; bytes with a scale of their own each."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray
from sparse_rt_kernels.between.elementwise import prepare_concat
from sparse_rt_kernels.threads.pool import ThreadPool

from sparse_rt.errors import FeedError, message
from sparse_rt.plan.steps.base import StepBase
from sparse_rt.plan.steps.calls import Calls
from sparse_rt.plan.steps.step import Environment, Shape, StepCall

__all__ = ["ConcatStep"]


@dataclass(frozen=True, eq=False, slots=True)
class ConcatStep(StepBase):
    """Copy arrays into one, in order; one may be there twice.

    Attributes
    ----------
    axis
        Along which they follow each other.
    tables
        For each input what its bytes become, (256,) bytes; None for those that stay as they are.
    tier
        The most specific tier of kernels; None leaves it to the CPU.
    """

    axis: int
    tables: tuple[NDArray[Any] | None, ...]
    tier: str | None
    _calls: Calls[StepCall] = field(default_factory=Calls, init=False, repr=False)

    def bind(self, shapes: Sequence[tuple[int, ...]], threads: int) -> StepCall:
        """Return the call for inputs of `shapes`. Raises FeedError."""
        return self._prepare(shapes, threads)

    def run(self, values: Environment, pool: ThreadPool, run_options: Any = None) -> None:
        """Compute y.

        Raises
        ------
        FeedError
            A value has the wrong dtype, or shapes do not fit each other.
        """
        arrays = self.checked(values)
        shapes = tuple(array.shape for array in arrays)
        key = (pool.threads, *shapes)
        call = self._calls.get(key) or self._calls.keep(key, self._prepare(shapes, pool.threads))
        y = self.empty_y(call.y_shape)
        if call.launch is not None:
            call.launch.run(arrays[0], y, pool, *arrays[1:])
        values[self.y] = y

    def concatenated(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """Return y's shape. Raises FeedError where shapes do not fit each other."""
        first, axis = shapes[0], self.axis
        if -len(first) <= axis < len(first):
            axis %= len(first)
            others = {(*shape[:axis], *shape[axis + 1 :]) for shape in shapes if len(shape) == len(first)}
            if len(others) == 1 and all(len(shape) == len(first) for shape in shapes):
                return (*first[:axis], sum(shape[axis] for shape in shapes), *first[axis + 1 :])
        got = ", ".join(map(str, shapes))
        raise FeedError(message(self.where, f"shapes that differ on axis {self.axis} only", got))

    def output_shape(self, shapes: Sequence[Shape | None]) -> Shape | None:
        """Return y's shape; None if a size is unknown, or if only a run can tell what is wrong."""
        known = [tuple(size for size in shape if size is not None) for shape in shapes if shape is not None]
        if [len(shape or ()) for shape in shapes] != [len(shape) for shape in known]:
            return None
        try:
            return self.concatenated(known)
        except FeedError:
            return None

    def _prepare(self, shapes: Sequence[tuple[int, ...]], threads: int) -> StepCall:
        y_shape = self.concatenated(shapes)
        self.empty_y(y_shape)
        if not math.prod(y_shape):
            return StepCall(y_shape, None)
        axis = self.axis % len(y_shape)
        widths = [math.prod(shape[axis:]) * self.y_dtype.itemsize for shape in shapes]
        return StepCall(y_shape, prepare_concat(math.prod(y_shape[:axis]), widths, self.tables, threads, self.tier))
