"""Arrays put together along an axis; bytes with a scale of their own each."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sparse_rt_kernels.between.elementwise import prepare_concat
from sparse_rt_kernels.threads.pool import ThreadPool

from sparse_rt.errors import FeedError, message
from sparse_rt.plan.steps.step import Environment, Shape, StepCall

__all__ = ["ConcatStep"]

#: Shapes whose calls a step keeps prepared; a model that meets more of them prepares again.
_MOST_CALLS: Final = 64


@dataclass(frozen=True, eq=False, slots=True)
class ConcatStep:
    """Copy arrays into one.

    Attributes
    ----------
    name
        Of the node.
    inputs
        Names of what it reads, in order; one may be there twice.
    y, y_dtype
        Name of what it writes, and dtype of all.
    axis
        Along which they follow each other.
    tables
        For each input what its bytes become, (256,) bytes; None for those that stay as they are.
    """

    name: str
    inputs: tuple[str, ...]
    y: str
    y_dtype: np.dtype[Any]
    axis: int
    tables: tuple[NDArray[Any] | None, ...]
    _calls: dict[tuple[Any, ...], StepCall] = field(default_factory=dict, init=False, repr=False)

    @property
    def op_type(self) -> str:
        """Of the ONNX operator."""
        return "Concat"

    @property
    def x(self) -> str:
        """Name of the first value."""
        return self.inputs[0]

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the values that it writes."""
        return (self.y,)

    @property
    def x_dtypes(self) -> tuple[np.dtype[Any], ...]:
        """Of the arrays that it reads."""
        return (self.y_dtype,) * len(self.inputs)

    @property
    def overwrites(self) -> tuple[str, ...]:
        """Names of inputs over which it may write its output: none."""
        return ()

    @property
    def alike(self) -> None:
        """What tells its calls from those of other steps: nothing that could be said."""
        return

    @property
    def constants(self) -> tuple[int, ...]:
        """Addresses of what belongs to it alone."""
        return ()

    def is_bindable(self, shapes: Mapping[str, tuple[int, ...]]) -> bool:
        """Return whether shapes are all that a call depends on."""
        return True

    def bind(self, shapes: Sequence[tuple[int, ...]], threads: int) -> StepCall:
        """Return the call for inputs of `shapes`. Raises FeedError."""
        return self._prepare(shapes, threads)

    def _call(self, shapes: Sequence[tuple[int, ...]], threads: int) -> StepCall:
        key = (threads, *shapes)
        found = self._calls.get(key)
        if found is None:
            found = self._prepare(shapes, threads)
            if len(self._calls) >= _MOST_CALLS:
                self._calls.clear()
            self._calls[key] = found
        return found

    def run(self, values: Environment, pool: ThreadPool, run_options: Any = None) -> None:
        """Compute y.

        Raises
        ------
        FeedError
            A value has the wrong dtype, or shapes do not fit each other.
        """
        arrays = [self._checked(name, values[name]) for name in self.inputs]
        call = self._call(tuple(array.shape for array in arrays), pool.threads)
        y = self._empty(call.y_shape)
        if call.launch is not None:
            call.launch.run(arrays[0], y, pool, *arrays[1:])
        values[self.y] = y

    def joined(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """Return y's shape. Raises FeedError where shapes do not fit each other."""
        first, axis = shapes[0], self.axis
        if -len(first) <= axis < len(first):
            axis %= len(first)
            others = {(*shape[:axis], *shape[axis + 1 :]) for shape in shapes if len(shape) == len(first)}
            if len(others) == 1 and all(len(shape) == len(first) for shape in shapes):
                return (*first[:axis], sum(shape[axis] for shape in shapes), *first[axis + 1 :])
        got = ", ".join(map(str, shapes))
        raise FeedError(message(f"Concat '{self.name}'", f"shapes that differ on axis {self.axis} only", got))

    def describe(self) -> str:
        """Return one line for a person."""
        return f"Concat  {self.name}  {', '.join(self.inputs)} -> {self.y}"

    def output_shape(self, shapes: Sequence[Shape | None]) -> Shape | None:
        """Return y's shape; None if a size is unknown, or if only a run can tell what is wrong."""
        known = [tuple(size for size in shape if size is not None) for shape in shapes if shape is not None]
        if [len(shape or ()) for shape in shapes] != [len(shape) for shape in known]:
            return None
        try:
            return self.joined(known)
        except FeedError:
            return None

    def _checked(self, name: str, value: NDArray[Any]) -> NDArray[Any]:
        if value.dtype != self.y_dtype:
            where = f"Concat '{self.name}', input '{name}'"
            raise FeedError(message(where, str(self.y_dtype), str(value.dtype)))
        return np.require(value, requirements=("C", "A"))

    def _prepare(self, shapes: Sequence[tuple[int, ...]], threads: int) -> StepCall:
        y_shape = self.joined(shapes)
        self._empty(y_shape)
        if not math.prod(y_shape):
            return StepCall(y_shape, None)
        axis = self.axis % len(y_shape)
        widths = [math.prod(shape[axis:]) * self.y_dtype.itemsize for shape in shapes]
        return StepCall(y_shape, prepare_concat(math.prod(y_shape[:axis]), widths, self.tables, threads))

    def _empty(self, shape: tuple[int, ...]) -> NDArray[Any]:
        try:
            return np.empty(shape, self.y_dtype)
        except (MemoryError, ValueError) as error:  # ValueError: larger than any array can be
            where = f"Concat '{self.name}', output '{self.y}'"
            raise FeedError(message(where, "an output that memory can hold", f"shape {shape}")) from error
