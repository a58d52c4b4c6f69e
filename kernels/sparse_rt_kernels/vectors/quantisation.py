"""Scale and zero point of a tensor of bytes, and what becomes of them in a kernel."""

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np

__all__ = ["BYTE_FIELDS", "ByteFields", "ByteTensor", "Quantisation", "byte_fields", "is_signed"]


class ByteFields(NamedTuple):
    """What :func:`narrowing.to_bytes` does after rounding: ints in Python and in kernels, IR i64 where code is emitted.

    Attributes
    ----------
    zero_point
        Added to what was rounded.
    least, most
        Bytes to clip to, as unsigned ones.
    flip
        Xor-ed to the byte in the end: 128 for signed bytes.
    """

    zero_point: Any
    least: Any
    most: Any
    flip: Any


#: Fields of a record that :func:`byte_fields` fills.
BYTE_FIELDS: Final = [(name, "i8") for name in ByteFields._fields]


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


@dataclass(frozen=True, slots=True)
class ByteTensor:
    """``value = (byte - zero_point) * scale`` of int8 or uint8."""

    quantisation: Quantisation
    dtype: np.dtype[Any]

    @property
    def unsigned_zero(self) -> int:
        """The zero point where signed bytes are taken as unsigned ones 128 higher."""
        return self.quantisation.zero_point + (128 if self.dtype.char == "b" else 0)


def byte_fields(y: Quantisation, dtype: np.dtype[Any], low: float = -np.inf, high: float = np.inf) -> ByteFields:
    """Return what makes bytes of `dtype` of rounded quotients by the scale of `y`, of values clipped to [low, high].

    Rounding is monotone, so clipping a value to [low, high] is clipping its byte to the bytes of these bounds.
    """
    shift = 128 if is_signed(dtype) else 0
    least, most = (y.quantise(bound, dtype) + shift for bound in (low, high))
    return ByteFields(y.zero_point + shift, least, most, shift)
