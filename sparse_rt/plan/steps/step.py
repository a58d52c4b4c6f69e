"""What a plan is made of."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeGuard, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from sparse_rt_kernels.threads.launch import Launch
from sparse_rt_kernels.threads.pool import ThreadPool

__all__ = ["BindableStep", "Environment", "KernelStep", "Part", "Shape", "Step", "StepCall", "can_be_bound", "spent"]

#: Values by name while one run lasts: arrays, or lists of arrays for ONNX sequences.
Environment = dict[str, NDArray[Any]]

#: A shape whose sizes may be unknown while planning.
Shape = tuple[int | None, ...]


class Part(Protocol):
    """Part of a model, which reads and writes values by name."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the values that it reads."""
        ...

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the values that it writes."""
        ...


class Step(Part, Protocol):
    """One frozen unit of a plan; it holds no state of a run."""

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

    def output_shape(self, shapes: Sequence[Shape | None]) -> Shape | None:
        """Return y's shape for inputs whose sizes may be partly unknown (None); None where nothing is known of it.

        Raises
        ------
        FeedError
            No inputs of these shapes can be computed.
        """
        ...


class StepCall(NamedTuple):
    """What a step does for inputs of given shapes.

    `launch` takes the first input as x, the second as `other`, or the address of a table of their addresses if there
    are more; None where nothing is to be computed. `is_view` says that the output is the first input in another shape.
    """

    y_shape: tuple[int, ...]
    launch: Launch | None
    is_view: bool = False


@runtime_checkable
class BindableStep(KernelStep, Protocol):
    """A kernel step that can be bound to shapes; see :class:`sparse_rt.plan.bind.segment.Segment`."""

    @property
    def x_dtypes(self) -> tuple[np.dtype[Any], ...]:
        """Of the arrays that it reads."""
        ...

    @property
    def overwrites(self) -> tuple[str, ...]:
        """Names of inputs over which it may write its output, where that has as many bytes."""
        ...

    @property
    def alike(self) -> Hashable | None:
        """What tells its calls from those of other steps, but for where its constants lie; None if nothing does.

        Steps that are alike make calls of the same kind for inputs of the same shapes: a launch of one is that of the
        other once :attr:`constants` are exchanged; see :class:`sparse_rt_kernels.threads.launch_family.LaunchFamily`.
        """
        ...

    @property
    def constants(self) -> tuple[int, ...]:
        """Addresses of what belongs to it alone, in the order of :attr:`Launch.constants`; () if nothing does."""
        ...

    def is_bindable(self, shapes: Mapping[str, tuple[int, ...]]) -> bool:
        """Return whether shapes are all that a call depends on, given those that are the same in every run."""
        ...

    def bind(self, shapes: Sequence[tuple[int, ...]], threads: int) -> StepCall | None:
        """Return what to do for inputs of `shapes`; None where there is no native call for it.

        Raises
        ------
        FeedError
            No inputs of these shapes can be computed.
        """
        ...


_bindable_kinds: dict[type, bool] = {}


def can_be_bound(step: object) -> TypeGuard[BindableStep]:
    """Return whether a step is a :class:`BindableStep`: asked once a class, since that looks at every attribute."""
    kind = type(step)
    found = _bindable_kinds.get(kind)
    if found is None:
        found = _bindable_kinds[kind] = isinstance(step, BindableStep)
    return found


def spent(steps: Sequence[Step]) -> tuple[tuple[str, ...], ...]:
    """Return for each step the values that no later step reads, so that their memory can go at once."""
    written = {name for step in steps for name in step.outputs}
    seen: set[str] = set()
    found = []
    for step in reversed(steps):
        names = dict.fromkeys(name for name in (*step.inputs, *step.outputs) if name in written and name not in seen)
        seen.update(names)
        found.append(tuple(names))
    return tuple(reversed(found))
