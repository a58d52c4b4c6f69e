"""Comparisons of arrays."""

import numpy as np
import pytest

from sparse_rt.verify.compare import bounded, exact, rms_distance, rms_within, within


def test_rms_distance():
    assert rms_distance(np.array([3.0, 4.0, np.nan]), np.array([3.0, 5.0, 1.0])) == pytest.approx(1 / np.sqrt(34))
    assert rms_distance(np.zeros(2), np.zeros(2)) == rms_distance(np.zeros(2), np.zeros(3)) == 0


def test_exact_counts_steps():
    found = exact(np.array([0, 255, 7], np.uint8), np.array([255, 255, 8], np.uint8))
    assert (found.equal, found.elements, found.differing, found.max_error) == (False, 3, 2, 255)
    assert exact(np.array([1], np.int8), np.array([1], np.int32)).note == "int8 [1] against int32 [1]"
    assert exact(np.array(["a"]), np.array(["a"])).equal


@pytest.mark.parametrize(
    ("y", "reference", "equal"),
    [
        (1.0, 1.05, True),
        (1.0, 1.2, False),
        (np.nan, np.nan, True),
        (np.nan, 1.0, False),
        (1.0, np.nan, False),
        (np.inf, np.inf, True),
        (np.inf, -np.inf, False),
        (np.inf, 1.0, False),
    ],
)
def test_bounded_elements(y, reference, equal):
    found = bounded(np.array([y]), np.array([reference]), np.array([0.1]), may_lose_nan=False)
    assert found.equal is equal
    assert (found.worst > 1) is not equal


def test_a_lost_nan_is_excused_only_where_the_input_explains_it():
    y, reference = np.array([0.0, 1.0]), np.array([np.nan, 1.0])
    assert bounded(y, reference, np.array(0.0), may_lose_nan=True).equal
    assert not bounded(y, reference, np.array(0.0), may_lose_nan=False).equal


def test_within_is_relative_to_the_largest_finite_value():
    reference = np.array([100.0, 0.0, np.inf])
    assert within(np.array([100.0, 0.9, np.inf]), reference, 0.01, may_lose_nan=False).equal
    assert not within(np.array([100.0, 1.1, np.inf]), reference, 0.01, may_lose_nan=False).equal


def test_rms_judges_the_whole():
    reference = np.full(100, 2.0)
    y = reference.copy()
    y[0] = 2.1  # rms of the difference 0.01, 0.005 of the reference's
    assert rms_within(y, reference, 0.006, may_lose_nan=False).equal
    assert not rms_within(y, reference, 0.004, may_lose_nan=False).equal
    for odd in (np.nan, np.inf):
        y[1] = odd
        assert not rms_within(y, reference, 0.006, may_lose_nan=False).equal
    assert not rms_within(np.ones(2), np.zeros(2), 0.5, may_lose_nan=False).equal
    assert rms_within(np.zeros(2), np.zeros(2), 0.5, may_lose_nan=False).equal
