"""Compare two arrays: bit for bit, within an elementwise bound, or within a tolerance on the whole."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["LEAST", "LOST_NAN", "Comparison", "bounded", "exact", "rms_distance", "rms_within", "within"]

LOST_NAN = "NaN in the reference only: 0 x inf"
"""What the note of a comparison says of elements that a sparse kernel made of a stored zero."""

LEAST = 2.0**-46
"""The square of the distance between 1 and the next float32."""


@dataclass(frozen=True)
class Comparison:
    """What two arrays have in common."""

    equal: bool
    """Whether every element obeys the rule."""

    elements: int
    differing: int
    """Elements that break the rule."""

    max_error: float
    """Largest |y - y_ref|: quantisation steps for integers, the value's own unit for floats."""

    worst: float
    """Largest |y - y_ref| / allowed; 0 where there is no difference, infinite where none is allowed."""

    note: str = ""


def exact(y: NDArray[Any], reference: NDArray[Any]) -> Comparison:
    """Compare bit for bit; for integers, booleans and strings."""
    mismatch = _mismatch(y, reference)
    if mismatch is not None:
        return mismatch
    different = np.asarray(y != reference)
    count = int(np.count_nonzero(different))
    error = 0.0
    if count and y.dtype.kind in "iu":
        # int64 and uint64 differences can wrap; float64 keeps their size, which is all that is said.
        error = float(np.abs(y.astype(np.float64) - reference.astype(np.float64)).max())
    return Comparison(count == 0, y.size, count, error, np.inf if count else 0.0)


def bounded(y: NDArray[Any], reference: NDArray[Any], allowed: NDArray[Any], *, may_lose_nan: bool) -> Comparison:
    """Compare floats: |y - reference| <= allowed, elementwise; NaN equals NaN, an infinity equals itself.

    Parameters
    ----------
    y, reference, allowed
        Of one shape.
    may_lose_nan
        Whether the input holds NaN or inf. A sparse kernel skips stored zeros, so 0 x inf is 0 where a dense engine
        says NaN: elements that are NaN in the reference then say nothing.
    """
    mismatch = _mismatch(y, reference)
    if mismatch is not None:
        return mismatch
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.abs(y.astype(np.float64) - reference.astype(np.float64))
        limit = np.broadcast_to(np.asarray(allowed, np.float64), y.shape)
        same = (y == reference) | (np.isnan(y) & np.isnan(reference))
        silent = np.isnan(reference) & ~np.isnan(y) if may_lose_nan else np.zeros(y.shape, np.bool_)
        good = same | silent | (error <= limit)
        shares = np.divide(error, limit, out=np.full(y.shape, np.inf), where=limit > 0)
    compared = ~(same | silent)
    count = int(np.count_nonzero(~good))
    largest, worst = _largest(error[compared]), _largest(shares[compared])
    skipped = int(np.count_nonzero(silent))
    note = f"{skipped} elements are {LOST_NAN}" if skipped else ""
    return Comparison(count == 0, y.size, count, largest, worst, note)


def within(y: NDArray[Any], reference: NDArray[Any], tolerance: float, *, may_lose_nan: bool) -> Comparison:
    """Compare floats: |y - reference| <= tolerance x max |reference| over the finite elements.

    Less than :data:`LEAST` is no difference: functions that saturate end in 0 or in a tiny number.
    """
    finite = np.abs(reference[np.isfinite(reference)].astype(np.float64))
    scale = float(finite.max()) if finite.size else 0.0
    return bounded(y, reference, np.asarray(max(LEAST, tolerance * scale)), may_lose_nan=may_lose_nan)


def rms_within(y: NDArray[Any], reference: NDArray[Any], tolerance: float, *, may_lose_nan: bool) -> Comparison:
    """Compare floats as a whole: rms(y - reference) <= tolerance x rms(reference) over the finite elements."""
    found = bounded(y, reference, np.asarray(np.finfo(np.float64).max), may_lose_nan=may_lose_nan)
    if not found.equal:
        return found
    finite = np.isfinite(y) & np.isfinite(reference)
    a, b = y[finite].astype(np.float64), reference[finite].astype(np.float64)
    error, allowed = float(np.linalg.norm(a - b)), tolerance * float(np.linalg.norm(b))
    worst = 0.0 if error == 0 else error / allowed if allowed else np.inf
    # The rule is one for all elements together.
    return Comparison(worst <= 1, y.size, 0 if worst <= 1 else y.size, found.max_error, worst, found.note)


def rms_distance(y: NDArray[Any], reference: NDArray[Any]) -> float:
    """Return rms(y - reference) / rms(reference) over the elements that are finite in both; 0 for none."""
    if y.shape != reference.shape:
        return 0.0
    finite = np.isfinite(y) & np.isfinite(reference)
    a, b = y[finite].astype(np.float64), reference[finite].astype(np.float64)
    norm = float(np.linalg.norm(b))
    return float(np.linalg.norm(a - b)) / norm if norm else 0.0


def _mismatch(y: NDArray[Any], reference: NDArray[Any]) -> Comparison | None:
    if y.shape == reference.shape and y.dtype == reference.dtype:
        return None
    note = f"{y.dtype} {list(y.shape)} against {reference.dtype} {list(reference.shape)}"
    return Comparison(False, y.size, y.size, np.inf, np.inf, note)


def _largest(values: NDArray[np.float64]) -> float:
    if values.size == 0:
        return 0.0
    return float(np.inf if np.isnan(values).any() else values.max())
