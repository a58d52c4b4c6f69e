"""What must hold between the steps of a plan, or of a part of it, whichever pass has touched them."""

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from sparse_rt_kernels.product.nchwc8 import NCHWc8

from sparse_rt.errors import ModelError, message
from sparse_rt.plan.steps.laid_out_step import LaidOutStep
from sparse_rt.plan.steps.step import Step, can_be_bound

__all__ = ["check_steps"]


def check_steps(
    steps: Sequence[Step], given: Collection[str] | Mapping[str, np.dtype[Any]], outputs: Collection[str]
) -> None:
    """Check that steps can run in their order.

    Parameters
    ----------
    steps
        In order of execution.
    given
        Names of feeds and constants, or of what steps before these write; where their types are known, by name.
    outputs
        Names of what callers may ask for, or steps after these read: they lie in planes.

    Raises
    ------
    ModelError
        A value is read before it is written, is written twice, is read as another type or in another layout than it is
        written, or an output is never written. That is an error of sparse_rt, not of the model.
    """
    written = set(given)
    dtypes = dict(given) if isinstance(given, Mapping) else {}
    layouts: dict[str, NCHWc8] = {}
    for number, step in enumerate(steps):
        for name, layout in _read(step):
            if name not in written:
                raise _error(number, step, f"'{name}' written by a step before", "none that writes it")
            if layouts.get(name) != layout:
                raise _error(number, step, f"'{name}' in {_described(layout)}", _described(layouts.get(name)))
        if can_be_bound(step):
            for name, dtype in zip(step.inputs, step.x_dtypes, strict=False):
                if dtypes.setdefault(name, dtype) != dtype:
                    raise _error(number, step, f"'{name}' of type {dtype}", str(dtypes[name]))
            dtypes[step.y] = step.y_dtype
        if isinstance(step, LaidOutStep) and step.y_layout is not None:
            layouts[step.y] = step.y_layout
        for name in step.outputs:
            if name in written and name not in given:
                raise _error(number, step, f"'{name}' written once", "a second step that writes it")
            written.add(name)
    for name in outputs:
        if name not in written:
            raise ModelError(message("plan", f"a step that writes output '{name}'", "none"))
        if name in layouts:
            raise ModelError(message("plan", f"output '{name}' in planes", _described(layouts[name])))


def _read(step: Step) -> Iterable[tuple[str, NCHWc8 | None]]:
    """Return the values that a step reads, each with the layout that it expects."""
    layouts = step.layouts if isinstance(step, LaidOutStep) else itertools.repeat(None)
    return zip(step.inputs, layouts, strict=False)


def _described(layout: NCHWc8 | None) -> str:
    return "planes" if layout is None else str(layout)


def _error(number: int, step: Step, expected: str, got: str) -> ModelError:
    return ModelError(message(f"step {number} ({step.describe()})", expected, got))
