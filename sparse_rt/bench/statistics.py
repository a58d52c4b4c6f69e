"""What a list of run times says: percentiles, and a ratio with its uncertainty."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Ratio", "Summary", "ratio_of_medians", "summarise"]

_RESAMPLES = 2000


@dataclass(frozen=True)
class Summary:
    """Run times of one engine, in seconds."""

    runs: int
    """How many."""

    median: float
    p90: float
    p99: float
    minimum: float


@dataclass(frozen=True)
class Ratio:
    """How many times faster sparse is than dense: dense time / sparse time."""

    value: float
    """Ratio of the medians over all runs."""

    low: float
    high: float
    """Ends of the 95 % interval."""

    turns: int
    """Pairs of turns that the interval comes from."""


def summarise(times: Sequence[float]) -> Summary:
    """Return the percentiles of `times`, linearly interpolated.

    Raises
    ------
    ValueError
        `times` is empty.
    """
    if not times:
        raise ValueError("summarise: expected at least one time, got none.")
    values = np.asarray(times, np.float64)
    median, p90, p99 = np.percentile(values, [50, 90, 99])
    return Summary(len(times), float(median), float(p90), float(p99), float(values.min()))


def ratio_of_medians(dense: Sequence[Sequence[float]], sparse: Sequence[Sequence[float]], seed: int = 0) -> Ratio:
    """Return median(dense) / median(sparse) and its 95 % interval.

    Turn i of one engine ran beside turn i of the other, so a drift of the clock touches both. The interval is the
    percentile bootstrap over pairs of turns (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13):
    runs within a turn are not independent, turns nearly are.

    Parameters
    ----------
    dense, sparse
        Equally many turns, each a non-empty list of seconds.
    """
    if len(dense) != len(sparse) or not dense:
        raise ValueError(f"ratio_of_medians: expected equally many turns, got {len(dense)} and {len(sparse)}.")
    value = _median_of_all(dense) / _median_of_all(sparse)
    rng = np.random.default_rng(seed)
    picks = rng.integers(0, len(dense), (_RESAMPLES, len(dense)))
    ratios = np.median(_medians(dense)[picks], axis=1) / np.median(_medians(sparse)[picks], axis=1)
    low, high = np.percentile(ratios, [2.5, 97.5])
    # The medians over turns and over runs can differ when turns hold unequally many runs.
    return Ratio(value, min(float(low), value), max(float(high), value), len(dense))


def _medians(turns: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    return np.asarray([np.median(turn) for turn in turns])


def _median_of_all(turns: Sequence[Sequence[float]]) -> float:
    return float(np.median(np.concatenate([np.asarray(turn) for turn in turns])))
