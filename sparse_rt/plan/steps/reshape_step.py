"""Another shape for the same elements."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sparse_rt_kernels.threads.pool import ThreadPool

from sparse_rt.errors import FeedError, message
from sparse_rt.plan.steps.base import StepBase
from sparse_rt.plan.steps.step import Environment, Shape, StepCall

__all__ = ["ReshapeStep"]


@dataclass(frozen=True, eq=False, slots=True)
class ReshapeStep(StepBase):
    """See an array in another shape; nothing is copied.

    Attributes
    ----------
    shape_of
        y's shape for x's, with -1 for one size that follows from the others; raises ValueError with what was expected.
    alike
        What tells its shapes from those of other steps; see :class:`sparse_rt.plan.steps.step.BindableStep`.
    """

    shape_of: Callable[[tuple[int, ...]], tuple[int, ...]]
    alike: Hashable | None = None

    def run(self, values: Environment, pool: ThreadPool, run_options: Any = None) -> None:
        """Compute y.

        Raises
        ------
        FeedError
            The elements do not fill the shape.
        """
        x = values[self.x]
        try:
            values[self.y] = x.reshape(self.shape_of(x.shape))
        except ValueError as error:
            raise FeedError(message(self.where, str(error), f"shape {x.shape}")) from error

    def bind(self, shapes: Sequence[tuple[int, ...]], threads: int) -> StepCall:
        """Return y's shape for an x of ``shapes[0]``; raises FeedError if it has none."""
        shape = self.output_shape(shapes)
        return StepCall(tuple(size for size in shape or () if size is not None), None, is_view=True)

    def output_shape(self, shapes: Sequence[Shape | None]) -> Shape | None:
        """Return y's shape for an x whose sizes may be partly unknown (None), or None where nothing is known."""
        shape = shapes[0]
        if shape is None:
            return None
        known = tuple(size for size in shape if size is not None)
        if len(known) < len(shape):
            return None
        try:
            # No memory stands behind it: an array of one element, seen in many places.
            return np.broadcast_to(np.int8(0), known).reshape(self.shape_of(known)).shape
        except ValueError as error:
            raise FeedError(message(self.where, str(error), f"shape {known}")) from error
