"""What formats have in common in how they keep the numbers of a weight."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_rt import arguments
from sparse_rt.errors import FormatError, message

__all__ = ["DTYPES", "dtype_names", "int8_values", "require_weight", "scaled_values"]

DTYPES = tuple(np.dtype(t) for t in (np.int8, np.uint8, np.float16, np.float32))
"""Of the weights that can be stored."""


def require_weight(weight: NDArray[Any], where: str) -> None:
    """Raise FormatError unless `weight` is of a dtype and shape that can be stored."""
    arguments.array(where, weight, FormatError)
    if weight.dtype.newbyteorder("=") not in DTYPES:
        raise FormatError(message(f"{where} {weight.shape}", dtype_names(), str(weight.dtype), "Cast it first."))
    if weight.ndim < 2:
        raise FormatError(message(f"{where} {weight.shape}", "(n, c) or (n, c, *kernel)", f"{weight.ndim} axes"))


def dtype_names() -> str:
    """Return :data:`DTYPES` in words."""
    return ", ".join(str(dtype) for dtype in DTYPES[:-1]) + f" or {DTYPES[-1]}"


def scaled_values(values: NDArray[Any], factors: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """Return values times factors that broadcast to them, in float32, as :meth:`Weight.scaled` needs it.

    None if a product of finite values leaves the range of float32, or loses digits at its lower end.
    """
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        scaled: NDArray[np.float32] = np.ascontiguousarray(values.astype(np.float32, copy=False) * factors)
    if values.dtype.kind in "iu" and _fits_bytes(factors):
        return scaled
    sizes = np.abs(scaled)
    lost = (values != 0) & (factors != 0) & ~((sizes >= np.finfo(np.float32).tiny) & (sizes < np.inf))
    return None if lost.any() and np.isfinite(values).all() else scaled


def _fits_bytes(factors: NDArray[np.float32]) -> bool:
    """Return whether no product of a factor and an 8-bit integer leaves the range of float32."""
    sizes, limits = np.abs(factors), np.finfo(np.float32)
    return bool(((sizes == 0) | ((sizes >= limits.tiny) & (sizes <= limits.max / 256))).all())


def int8_values(values: NDArray[Any]) -> NDArray[np.int8] | None:
    """Return values as int8: themselves, or a view of uint8 ones below 128; else None."""
    if values.dtype == np.int8:
        return values
    if values.dtype == np.uint8 and not (values > np.iinfo(np.int8).max).any():
        return values.view(np.int8)
    return None
