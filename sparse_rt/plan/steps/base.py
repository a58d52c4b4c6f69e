"""What all steps on kernels of ours have in common: names, checks of what they read, memory for what they write."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_rt.errors import FeedError, message
from sparse_rt.plan.steps.step import Environment

__all__ = ["StepBase", "no_memory"]


@dataclass(frozen=True, eq=False, slots=True)
class StepBase:
    """A step that reads some values and writes one.

    Kernels use raw pointers, so what they trust is checked here before each call; outputs are allocated here. A new
    kind of step adds its own arithmetic: :meth:`bind`, :meth:`run` and :meth:`output_shape`, see
    :class:`sparse_rt.plan.steps.step.BindableStep`.

    Attributes
    ----------
    op_type, name
        Of the ONNX operator, and of its node.
    inputs, x_dtypes
        Names of the values that it reads, and the dtypes of their arrays.
    y, y_dtype
        Name and dtype of what it writes.
    """

    op_type: str
    name: str
    inputs: tuple[str, ...]
    x_dtypes: tuple[np.dtype[Any], ...]
    y: str
    y_dtype: np.dtype[Any]

    @property
    def x(self) -> str:
        """Name of the value whose shape decides y's."""
        return self.inputs[0]

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the values that it writes."""
        return (self.y,)

    @property
    def overwrites(self) -> tuple[str, ...]:
        """Names of inputs over which it may write its output: none."""
        return ()

    @property
    def alike(self) -> Hashable | None:
        """What tells its calls from those of other steps: nothing that could be said."""
        return None

    @property
    def constants(self) -> tuple[int, ...]:
        """Addresses of what belongs to it alone."""
        return ()

    @property
    def where(self) -> str:
        """What errors call it."""
        return f"{self.op_type} '{self.name}'"

    def is_bindable(self, shapes: Mapping[str, tuple[int, ...]]) -> bool:
        """Return whether shapes are all that a call depends on."""
        return True

    def describe(self) -> str:
        """Return one line for a person."""
        return f"{self.op_type}  {self.name}  {', '.join(self.inputs)} -> {self.y}"

    def checked(self, values: Environment) -> list[NDArray[Any]]:
        """Return the arrays that it reads, contiguous and aligned.

        Raises
        ------
        FeedError
            One has another dtype.
        """
        return [self._checked(*of, values[of[0]]) for of in zip(self.inputs, self.x_dtypes, strict=True)]

    def _checked(self, name: str, dtype: np.dtype[Any], value: NDArray[Any]) -> NDArray[Any]:
        if value.dtype != dtype:
            raise FeedError(message(f"{self.where}, input '{name}'", str(dtype), str(value.dtype)))
        if value.flags.c_contiguous and value.flags.aligned:
            return value
        return np.require(value, requirements=("C", "A"))

    def empty_y(self, shape: tuple[int, ...]) -> NDArray[Any]:
        """Return memory for y. Raises FeedError if there is none."""
        try:
            return np.empty(shape, self.y_dtype)
        except (MemoryError, ValueError) as error:  # ValueError: larger than any array can be
            raise no_memory(f"{self.where}, output '{self.y}'", "an output", shape) from error


def no_memory(where: str, what: str, shape: tuple[int, ...]) -> FeedError:
    """Return the error of a step that needs arrays larger than memory."""
    return FeedError(message(where, f"{what} that memory can hold", f"shape {shape}"))
