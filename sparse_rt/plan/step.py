"""What a plan is made of."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from sparse_rt_kernels.parallel import ThreadPool

__all__ = ["Environment", "KernelStep", "Shape", "Step"]

#: Values by name while one run lasts: arrays, or lists of arrays for ONNX sequences.
Environment = dict[str, NDArray[Any]]

#: A shape whose sizes may be unknown while planning.
Shape = tuple[int | None, ...]


class Step(Protocol):
    """One frozen unit of a plan; it reads and writes values by name and holds no state of a run."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the values that it reads."""
        ...

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the values that it writes."""
        ...

    def run(self, values: Environment, pool: ThreadPool, run_options: Any = None) -> None:
        """Compute the outputs from the inputs; both are kept in `values`."""
        ...

    def describe(self) -> str:
        """Return one line for a person."""
        ...


class KernelStep(Step, Protocol):
    """A step that one kernel of ours computes: x, and perhaps other values, to y."""

    @property
    def x(self) -> str:
        """Name of the value whose shape decides y's."""
        ...

    @property
    def y(self) -> str:
        """Name of the value that it writes."""
        ...

    @property
    def y_dtype(self) -> np.dtype[Any]:
        """Of the array that it writes."""
        ...

    def output_shape(self, shape: Shape | None) -> Shape | None:
        """Return y's shape for an x whose sizes may be partly unknown (None), or None where nothing is known.

        Where x and another value are broadcast to one shape, that shape is given.

        Raises
        ------
        FeedError
            No x of that shape can be computed.
        """
        ...
