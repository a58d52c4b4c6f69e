"""What a plan is made of."""

from typing import Any, Protocol

from numpy.typing import NDArray
from sparse_rt_kernels.parallel import ThreadPool

__all__ = ["Environment", "Step"]

#: Values by name while one run lasts: arrays, or lists of arrays for ONNX sequences.
Environment = dict[str, NDArray[Any]]


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
