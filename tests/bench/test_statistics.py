"""Medians, percentiles, and how sure a ratio of medians is."""

import numpy as np
import pytest

from sparse_rt.bench.statistics import ratio_of_medians, summarise


def test_summary():
    found = summarise([5.0, 1.0, 2.0, 4.0, 3.0])
    assert (found.runs, found.median, found.minimum) == (5, 3.0, 1.0)
    assert found.p90 == pytest.approx(4.6)
    assert found.p99 == pytest.approx(4.96)
    with pytest.raises(ValueError, match="at least one"):
        summarise([])


def test_ratio_of_equal_turns_is_certain():
    found = ratio_of_medians([[2.0, 2.0], [2.0]], [[1.0], [1.0, 1.0]])
    assert (found.value, found.low, found.high, found.turns) == (2, 2, 2, 2)


def test_interval_covers_the_true_ratio_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for seed in range(60):
        dense, sparse = (
            [list(median * rng.lognormal(0, 0.1) * rng.lognormal(0, 0.05, 9)) for _ in range(12)]
            for median in (3.0, 2.0)
        )
        found = ratio_of_medians(dense, sparse, seed)
        assert found.low <= found.value <= found.high
        hits += found.low <= 1.5 <= found.high
    assert hits >= 48


def test_ratio_needs_pairs():
    with pytest.raises(ValueError, match="equally many"):
        ratio_of_medians([[1.0]], [])
