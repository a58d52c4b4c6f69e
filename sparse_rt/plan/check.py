"""What must hold between the steps of a plan, whichever pass has touched them."""

from collections.abc import Collection, Sequence

import numpy as np

from sparse_rt.errors import ModelError, message
from sparse_rt.plan.step import BindableStep, Step

__all__ = ["check_steps"]


def check_steps(steps: Sequence[Step], given: Collection[str], outputs: Collection[str]) -> None:
    """Check that steps can run in their order.

    Parameters
    ----------
    steps
        In order of execution.
    given
        Names of feeds and constants.
    outputs
        Names of what callers may ask for.

    Raises
    ------
    ModelError
        A value is read before it is written, is written twice, is read as another type than it is written, or an
        output is never written. That is an error of sparse_rt, not of the model.
    """
    written = set(given)
    dtypes: dict[str, np.dtype[np.generic]] = {}
    for number, step in enumerate(steps):
        where = f"step {number} ({step.describe()})"
        for name in step.inputs:
            if name not in written:
                raise ModelError(message(where, f"'{name}' written by a step before", "none that writes it"))
        if isinstance(step, BindableStep):
            for name, dtype in zip(step.inputs, step.x_dtypes, strict=False):
                if dtypes.get(name, dtype) != dtype:
                    raise ModelError(message(where, f"'{name}' of type {dtype}", str(dtypes[name])))
            dtypes[step.y] = step.y_dtype
        for name in step.outputs:
            if name in written and name not in given:
                raise ModelError(message(where, f"'{name}' written once", "a second step that writes it"))
            written.add(name)
    for name in outputs:
        if name not in written:
            raise ModelError(message("plan", f"a step that writes output '{name}'", "none"))
