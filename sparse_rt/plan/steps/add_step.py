"""Add of two activations, as a step."""

from dataclasses import dataclass

import numpy as np
from sparse_rt_kernels.product.quantised_add import QuantisedAdd

from sparse_rt.plan.steps.operator_step import OperatorStep

__all__ = ["AddStep"]


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class AddStep(OperatorStep):
    """Add two activations, and clip the sum; a layer before it may take that over, see :mod:`sparse_rt.plan.bind`.

    Attributes
    ----------
    low, high
        The clip bounds of floats.
    quantised
        For bytes: what both inputs and y stand for, and the clip bounds; the first input is its first operand.
    tier
        The most specific tier of kernels to use; None leaves it to the CPU.
    """

    low: float = -np.inf
    high: float = np.inf
    quantised: QuantisedAdd | None = None
    tier: str | None = None
