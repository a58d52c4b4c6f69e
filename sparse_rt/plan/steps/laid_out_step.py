"""A step of a bound segment some of whose arrays lie in blocks of 8 channels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sparse_rt_kernels.product.nchwc8 import NCHWc8
from sparse_rt_kernels.threads.launch import Launch
from sparse_rt_kernels.threads.pool import ThreadPool

from sparse_rt.plan.steps.step import Environment, Shape, StepCall

__all__ = ["LaidOutStep"]


@dataclass(frozen=True, eq=False, slots=True)
class LaidOutStep:
    """One launch, made while a segment is bound to shapes; it belongs to that binding and never runs on its own.

    Attributes
    ----------
    operation, name
        For a person: what runs, and which layer it is.
    inputs, x_dtypes
        Names of the values that it reads, and the dtypes of their arrays.
    y, y_dtype, y_shape
        Name of the value that it writes; dtype and shape of its array.
    launch
        The call.
    layouts, y_layout
        How the arrays that it reads, and the one that it writes, lie in blocks, borders included; None for planes.
    overwrites
        Names of inputs over which it may write its output.
    """

    operation: str
    name: str
    inputs: tuple[str, ...]
    x_dtypes: tuple[np.dtype[Any], ...]
    y: str
    y_dtype: np.dtype[Any]
    y_shape: tuple[int, ...]
    launch: Launch
    layouts: tuple[NCHWc8 | None, ...]
    y_layout: NCHWc8 | None
    overwrites: tuple[str, ...] = ()

    @property
    def x(self) -> str:
        """Name of the first value that it reads."""
        return self.inputs[0]

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the values that it writes."""
        return (self.y,)

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
        """Return the call."""
        return StepCall(self.y_shape, self.launch)

    def output_shape(self, shapes: Sequence[Shape | None]) -> Shape | None:
        """Return the shape of the array that it writes."""
        return self.y_shape

    def run(self, values: Environment, pool: ThreadPool, run_options: Any = None) -> None:
        """Run on the arrays of `values`, which lie as the step expects them."""
        y = np.empty(self.y_shape, self.y_dtype)
        arrays = [values[name] for name in self.inputs]
        self.launch.run(arrays[0], y, pool, *arrays[1:])
        values[self.y] = y

    def describe(self) -> str:
        """Return one line for a person."""
        return f"{self.operation}  {self.name}  {' + '.join(self.inputs)} -> {self.y}"
