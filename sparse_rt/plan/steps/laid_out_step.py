"""A step of a bound segment some of whose arrays lie in blocks of 8 channels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sparse_rt_kernels.product.nchwc8 import NCHWc8
from sparse_rt_kernels.threads.launch import Launch
from sparse_rt_kernels.threads.pool import ThreadPool

from sparse_rt.plan.steps.base import StepBase
from sparse_rt.plan.steps.step import Environment, Shape, StepCall

__all__ = ["LaidOutStep"]


@dataclass(frozen=True, eq=False, slots=True)
class LaidOutStep(StepBase):
    """One launch, made while a segment is bound to shapes; it belongs to that binding and never runs on its own.

    Attributes
    ----------
    op_type, name
        For a person: what runs, and which layer it is.
    y_shape
        Of the array that it writes.
    launch
        The call.
    layouts, y_layout
        How the arrays that it reads, and the one that it writes, lie in blocks, borders included; None for planes.
    overwrites
        Names of inputs over which it may write its output.
    """

    y_shape: tuple[int, ...]
    launch: Launch
    layouts: tuple[NCHWc8 | None, ...]
    y_layout: NCHWc8 | None
    overwrites: tuple[str, ...] = ()

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
        return f"{self.op_type}  {self.name}  {' + '.join(self.inputs)} -> {self.y}"
