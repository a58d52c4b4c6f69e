"""The sum of two tensors of bytes, each with a scale of its own, as a third: what it computes."""

from dataclasses import dataclass

import numpy as np

from sparse_rt_kernels.vectors.quantisation import Quantisation

__all__ = ["QuantisedAdd"]

#: One step of a then saturates y, and a sum of both, which may cancel, is still right to 1/32 of a step.
_MOST_RATIO = 2.0**10
#: Quotients from here on are normal numbers.
_LEAST_RATIO = 2.0**-100


@dataclass(frozen=True, slots=True)
class QuantisedAdd:
    """``y = saturate(round_half_even(clip((a - za) sa + (b - zb) sb, low, high) / sy) + zy)``.

    Attributes
    ----------
    a, b, y
        Scale s and zero point z of each.
    low, high
        Clip bounds of the sum, in its own unit; 0 and inf for Relu.

    Raises
    ------
    ValueError
        sa or sb is more than 2**10 sy, where a single step saturates y, or so little of it that the quotient of the
        two has lost digits.
    """

    a: Quantisation
    b: Quantisation
    y: Quantisation
    low: float = -np.inf
    high: float = np.inf

    def __post_init__(self) -> None:
        a_ratio, b_ratio, _ = self.quotients
        if not all(_LEAST_RATIO <= ratio <= _MOST_RATIO for ratio in (a_ratio, b_ratio)):
            got = f"{a_ratio:g} and {b_ratio:g}"
            raise ValueError(f"quantised add: expected scales of 2**-100 to 2**10 times that of y, got {got}.")

    @property
    def quotients(self) -> tuple[float, float, float]:
        """Sa / sy and sb / sy, rounded to float32, and what zero points add to the sum in units of sy."""
        a_ratio, b_ratio = (float(np.float32(side.scale) / np.float32(self.y.scale)) for side in (self.a, self.b))
        return a_ratio, b_ratio, -(self.a.zero_point * a_ratio + self.b.zero_point * b_ratio)
