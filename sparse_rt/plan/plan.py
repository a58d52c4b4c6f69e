"""A plan: the frozen steps that run a model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sparse_rt_kernels.parallel import ThreadPool

from sparse_rt.plan.metadata import ModelMetadata
from sparse_rt.plan.report import LayerReport
from sparse_rt.plan.signature import Signature
from sparse_rt.plan.sparse_step import SparseStep
from sparse_rt.plan.step import Environment, Step

__all__ = ["Plan"]


@dataclass(frozen=True, eq=False)
class Plan:
    """Steps in order, and what surrounds them. Immutable: several threads may run it at once.

    Attributes
    ----------
    signature
        Inputs and outputs.
    steps
        In order of execution.
    constants
        Values that steps or callers read without a step writing them: initializers, and defaults of inputs.
    reports
        One for each layer.
    metadata
        The model's description.
    shapes
        Those of the values whose shape is the same in every run, as far as they are known.
    """

    signature: Signature
    steps: tuple[Step, ...]
    constants: Mapping[str, NDArray[Any]]
    reports: tuple[LayerReport, ...]
    metadata: ModelMetadata
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    _spent: tuple[tuple[str, ...], ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_spent", _spent(self.steps))

    @property
    def is_sparse(self) -> bool:
        """Whether a sparse kernel runs at all."""
        return any(isinstance(step, SparseStep) for step in self.steps)

    def describe(self) -> str:
        """Return the plan for a person, one step a line."""
        return "\n".join(f"{number:4d}  {step.describe()}" for number, step in enumerate(self.steps))

    def run(self, names: Sequence[str], feeds: Environment, pool: ThreadPool, run_options: Any = None) -> list[Any]:
        """Return the outputs `names`, arrays that belong to the caller.

        Parameters
        ----------
        names
            Checked by :meth:`Signature.output_names`.
        feeds
            Checked by :meth:`Signature.checked`.
        pool
            Of the kernels.
        run_options
            onnxruntime's.
        """
        values = {**self.constants, **feeds}
        for step, spent in zip(self.steps, self._spent, strict=True):
            step.run(values, pool, run_options)
            for name in spent:
                if name not in names:
                    del values[name]
        # A caller may write into its outputs: feeds and constants are copied, and so is a name that is asked for twice.
        results: list[Any] = []
        for position, name in enumerate(names):
            value = values[name]
            is_shared = name in feeds or name in self.constants or name in names[:position]
            results.append(value.copy() if is_shared and isinstance(value, np.ndarray) else value)
        return results


def _spent(steps: Sequence[Step]) -> tuple[tuple[str, ...], ...]:
    """Return for each step the values that no later step reads, so that their memory can go at once."""
    written = {name for step in steps for name in step.outputs}
    seen: set[str] = set()
    spent = []
    for step in reversed(steps):
        names = dict.fromkeys(name for name in (*step.inputs, *step.outputs) if name in written and name not in seen)
        seen.update(names)
        spent.append(tuple(names))
    return tuple(reversed(spent))
