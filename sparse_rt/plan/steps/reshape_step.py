"""Another shape for the same elements."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sparse_rt_kernels.threads.pool import ThreadPool

from sparse_rt.errors import FeedError, message
from sparse_rt.plan.steps.step import Environment, Shape, StepCall

__all__ = ["ReshapeStep"]


@dataclass(frozen=True, eq=False, slots=True)
class ReshapeStep:
    """See an array in another shape; nothing is copied.

    Attributes
    ----------
    op_type, name
        Of the ONNX operator, and of its node.
    x, y
        Names of what it reads and writes.
    y_dtype
        Of both.
    shape_of
        y's shape for x's, with -1 for one size that follows from the others; raises ValueError with what was expected.
    alike
        What tells its shapes from those of other steps; see :class:`sparse_rt.plan.steps.step.BindableStep`.
    """

    op_type: str
    name: str
    x: str
    y: str
    y_dtype: np.dtype[Any]
    shape_of: Callable[[tuple[int, ...]], tuple[int, ...]]
    alike: Hashable | None = None

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the values that it reads."""
        return (self.x,)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the values that it writes."""
        return (self.y,)

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
            raise FeedError(message(f"{self.op_type} '{self.name}'", str(error), f"shape {x.shape}")) from error

    @property
    def x_dtypes(self) -> tuple[np.dtype[Any], ...]:
        """Of the arrays that it reads."""
        return (self.y_dtype,)

    @property
    def overwrites(self) -> tuple[str, ...]:
        """Names of inputs over which it may write its output: it writes nothing."""
        return ()

    @property
    def constants(self) -> tuple[int, ...]:
        """Addresses of what belongs to it alone."""
        return ()

    def is_bindable(self, shapes: Mapping[str, tuple[int, ...]]) -> bool:
        """Return whether shapes are all that a call depends on."""
        return True

    def bind(self, shapes: Sequence[tuple[int, ...]], threads: int) -> StepCall:
        """Return y's shape for an x of ``shapes[0]``; raises FeedError if it has none."""
        shape = self.output_shape(shapes)
        return StepCall(tuple(size for size in shape or () if size is not None), None, is_view=True)

    def describe(self) -> str:
        """Return one line for a person."""
        return f"{self.op_type}  {self.name}  {self.x} -> {self.y}"

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
            raise FeedError(message(f"{self.op_type} '{self.name}'", str(error), f"shape {known}")) from error
