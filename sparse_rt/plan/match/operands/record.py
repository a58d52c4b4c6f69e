"""What a kernel needs to know of a layer, or why it computes none such."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from sparse_rt_kernels.product.epilogue import FloatEpilogue, IntegerEpilogue

from sparse_rt.formats import Weight
from sparse_rt.plan.steps.requantisation import Requantisation

__all__ = ["Operands", "Refusal"]


@dataclass(frozen=True)
class Refusal:
    """Why no kernel fits a layer, in words for the report."""

    reason: str


@dataclass(frozen=True, eq=False)
class Operands:
    """What a kernel needs to know of a layer, beside its shape.

    Attributes
    ----------
    dtype
        Of the kernel: ``"f32"`` or ``"u8s8"``.
    weight
        As the kernel takes it, in the format that it came in.
    epilogue
        What becomes of the sums.
    x_dtype, y_dtype
        Of the arrays.
    pad_value
        The zero point of x where it is constant.
    x_zero_point, scale
        Names of the values that hold a zero point of x, and a scale of the product, which are known only at run time.
    requantisation
        What the epilogue is then made from; None where `epilogue` holds as it is.
    """

    dtype: str
    weight: Weight
    epilogue: FloatEpilogue | IntegerEpilogue
    x_dtype: np.dtype[Any]
    y_dtype: np.dtype[Any]
    pad_value: int = 0
    x_zero_point: str | None = None
    scale: str | None = None
    requantisation: Requantisation | None = None
