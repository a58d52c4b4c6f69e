"""Adds of bytes that follow a layer over NCHWc8."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from sparse_rt_kernels.product.quantised_add import QuantisedAdd

from sparse_rt.plan.steps.add_step import AddStep
from sparse_rt.plan.steps.step import BindableStep

__all__ = ["Sum", "find_sums", "unsigned"]


class Sum(NamedTuple):
    """What an Add writes: its step, the operand whose layer it follows, the other one, and what is computed."""

    step: AddStep
    own: str
    residual: str
    addition: QuantisedAdd

    def zero_point(self, operand: str) -> int:
        """Return the zero point that the Add sees in one of its operands, as it lies in blocks."""
        number = self.step.inputs.index(operand)
        one = (self.addition.a, self.addition.b)[number]
        return unsigned(one.zero_point, self.step.x_dtypes[number])


def find_sums(
    steps: Sequence[BindableStep], shapes: Mapping[str, tuple[int, ...] | None], alone: Collection[str]
) -> dict[str, Sum]:
    """Find the quantised Adds that can follow the layer which writes one operand: the later one of two.

    Parameters
    ----------
    steps, shapes
        Of a segment.
    alone
        What layers over blocks write that nobody but one step reads.

    Returns
    -------
    dict
        By what the Add writes.
    """
    order = {step.y: number for number, step in enumerate(steps)}
    found: dict[str, Sum] = {}
    for step in steps:
        if not isinstance(step, AddStep) or step.quantised is None:
            continue
        a, b = step.inputs
        if a == b or shapes.get(a) is None or shapes.get(a) != shapes.get(b):
            continue
        layers = [name for name in (a, b) if name in alone]
        if layers:
            own = max(layers, key=lambda name: order[name])
            found[step.y] = Sum(step, own, b if own == a else a, step.quantised)
    return found


def unsigned(zero_point: int, dtype: np.dtype[Any]) -> int:
    """Return a zero point of bytes as it lies in blocks."""
    return zero_point + (128 if dtype.char == "b" else 0)
