"""Scale and zero point of a tensor of bytes, and what becomes of them in a kernel."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

__all__ = ["BYTE_FIELDS", "Quantisation", "byte_fields", "is_signed"]

#: Fields of a record that :func:`byte_fields` fills: what :func:`narrowing.to_bytes` takes.
BYTE_FIELDS: Final = [(name, "i8") for name in ("zero_point", "least", "most", "flip")]


@dataclass(frozen=True, slots=True)
class Quantisation:
    """``value = (byte - zero_point) * scale``.

    Attributes
    ----------
    scale
        Between 2**-60 and 2**60; used as float32.
    zero_point
        Within the range of the dtype of the bytes.
    """

    scale: float
    zero_point: int

    def __post_init__(self) -> None:
        if not 2.0**-60 <= self.scale <= 2.0**60:
            raise ValueError(f"quantisation: expected a scale between 2**-60 and 2**60, got {self.scale}.")

    def quantise(self, value: float, dtype: np.dtype[Any]) -> int:
        """Return the byte of `value`: divided in float32, rounded half to even, saturated; -inf and inf too."""
        info = np.iinfo(dtype)
        with np.errstate(over="ignore", under="ignore"):
            quotient = float(np.float32(value) / np.float32(self.scale))
        nearest = float(np.rint(np.clip(quotient, -1e6, 1e6))) + self.zero_point
        return int(np.clip(nearest, info.min, info.max))


def is_signed(dtype: np.dtype[Any]) -> bool:
    """Return whether `dtype` is int8, not uint8."""
    if dtype.char not in "bB":
        raise TypeError(f"elementwise: expected int8 or uint8, got {dtype}.")
    return dtype.char == "b"


def byte_fields(y: Quantisation, dtype: np.dtype[Any], low: float, high: float) -> tuple[int, int, int, int]:
    """Return zero point, least and most byte as unsigned bytes, and what is xor-ed to them in the end.

    Rounding is monotone, so clipping a value to [low, high] is clipping its byte to the bytes of these bounds.
    """
    shift = 128 if is_signed(dtype) else 0
    least, most = (y.quantise(bound, dtype) + shift for bound in (low, high))
    return y.zero_point + shift, least, most, shift
