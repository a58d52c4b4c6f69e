"""See what the layers of a plan read in a run: dtypes and shapes, also those that planning cannot know."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sparse_rt_kernels.threads.pool import ThreadPool

from sparse_rt.plan.steps.sparse_step import SparseStep
from sparse_rt.plan.steps.step import Environment, Step

__all__ = ["Input", "layer_inputs"]


@dataclass(frozen=True, eq=False)
class Input:
    """One value that a layer reads.

    Attributes
    ----------
    dtype, shape
        Of the array.
    number
        The array itself where it is a single number: a scale or a zero point must be a legal one.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    number: NDArray[Any] | None

    def array(self) -> NDArray[Any]:
        """Return an array like it, of random values, on which times do not depend."""
        if self.number is not None:
            return self.number
        rng = np.random.default_rng(0)
        if self.dtype.kind == "f":
            return rng.standard_normal(self.shape, np.float32).astype(self.dtype)
        limits = np.iinfo(self.dtype)
        return rng.integers(limits.min, limits.max, self.shape, self.dtype, endpoint=True)


def layer_inputs(steps: Sequence[Step], values: Environment, pool: ThreadPool) -> dict[str, dict[str, Input]]:
    """Run the steps once, and return for each sparse step, by the name of y, what it reads.

    Parameters
    ----------
    steps
        Of a plan, in order.
    values
        Constants and feeds; used up.
    pool
        Of the kernels.
    """
    last = {name: number for number, step in enumerate(steps) for name in (*step.outputs, *step.inputs)}
    found = {}
    for number, step in enumerate(steps):
        if isinstance(step, SparseStep):
            found[step.y] = {name: _input(values[name]) for name in step.inputs}
        step.run(values, pool)
        for name in (*step.inputs, *step.outputs):
            if last[name] == number:
                values.pop(name, None)
    return found


def _input(array: NDArray[Any]) -> Input:
    return Input(array.dtype, array.shape, array if array.size <= 1 else None)
