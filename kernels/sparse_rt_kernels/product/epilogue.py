"""What happens to an accumulator before it is stored: bias, scale, clip, requantise."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

__all__ = ["FloatEpilogue", "IntegerEpilogue"]


@dataclass(frozen=True, slots=True)
class FloatEpilogue:
    """``y = min(max(acc + bias[n], low), high)``.

    Attributes
    ----------
    bias
        (n,) float32.
    low, high
        Clip bounds; -inf and inf for none. A NaN accumulator stays NaN.
    address
        Of bias, looked up once because kernels need it in every call.
    """

    bias: NDArray[np.float32]
    low: float = -np.inf
    high: float = np.inf
    address: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "address", int(self.bias.ctypes.data))

    @property
    def constants(self) -> tuple[int, ...]:
        """The addresses of what belongs to one layer."""
        return (self.address,)


@dataclass(frozen=True, slots=True)
class IntegerEpilogue:
    """What an int32 accumulator of sum(x * w) becomes; the output array's dtype decides.

    - int32: ``acc + offset[n]``
    - float32: ``t = float32(acc + offset[n]) * scale[n] + bias[n]``, clipped to [low, high]; the product is rounded
      before the sum (no fused multiply-add), as onnxruntime's separate operators do
    - int8, uint8: t as above, clipped, rounded half to even, plus `zero_point`, saturated

    Attributes
    ----------
    offset
        (n,) int32, contiguous: the int32 bias less x_zero_point * sum(w). The sum acc + offset wraps like int32.
    scale, bias
        (n,) float32, contiguous.
    low, high
        Clip bounds of t, before rounding and before `zero_point`.
    zero_point
        Of the output.
    addresses
        Of offset, scale and bias, looked up once because kernels need them in every call.
    """

    offset: NDArray[np.int32]
    scale: NDArray[np.float32]
    bias: NDArray[np.float32]
    low: float = -np.inf
    high: float = np.inf
    zero_point: int = 0
    addresses: tuple[int, int, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        arrays = (self.offset, self.scale, self.bias)
        object.__setattr__(self, "addresses", tuple(array.ctypes.data for array in arrays))

    @property
    def constants(self) -> tuple[int, ...]:
        """The addresses of what belongs to one layer."""
        return self.addresses
