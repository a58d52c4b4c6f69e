"""The outputs, end to end: the rule that each is held to."""

import numpy as np
import pytest

from sparse_rt.verify.outputs import Rules, check_outputs

F = np.float32


def check(y, reference, plain=None, *, quantised=False, exact=(), tolerance=1e-4, lost=False):
    rules = Rules(tolerance, quantised, frozenset(exact), lost, lambda: {} if plain is None else {"y": plain})
    (found,) = check_outputs({"y": y}, {"y": reference}, rules)
    return found


def floats(*values):
    return np.array(values, F)


@pytest.mark.parametrize("quantised", [False, True])
@pytest.mark.parametrize(
    ("y", "plain", "status"),
    [
        (floats(1, 2, 3), floats(1, 2, 3), "equal"),
        (floats(1, 2, 4), floats(1, 2, 3), "different"),  # the reference is sure
        (floats(1, 2, 4), floats(1, 3, 3), "unknown"),  # it is as far from itself
        (floats(1, 2, 4.9), floats(1, 2, 4), "unknown"),
        (floats(1, 2, 5.2), floats(1, 2, 4), "different"),  # more than twice as far
        (floats(9, 9, 9), floats(1, 3, 3), "different"),
        (floats(1, 2, np.nan), floats(1, 3, 3), "different"),
        (floats(1, 2, 4), floats(1, 2, np.nan), "different"),
        (floats(1, 2, 4), None, "different"),
        (floats(1, 2, 4), floats(1, 3), "different"),
    ],
)
def test_floats_beyond_the_tolerance(y, plain, status, quantised):
    found = check(y, floats(1, 2, 3), plain, quantised=quantised)
    assert found.status == status
    if status == "unknown":
        assert "two executions of the reference itself differ by" in found.note


def test_noise_within_the_cap_is_allowed_and_beyond_it_cannot_be_told():
    reference, step = np.ones(100, F), np.where(np.arange(100) % 2, F(1), F(-1))
    assert check(reference + F(0.1) * step, reference, reference - F(0.06) * step, quantised=True).status == "equal"
    found = check(reference + F(0.2) * step, reference, reference - F(0.2) * step, quantised=True)
    assert found.status == "unknown"
    assert found.tolerance == 2**-3
    assert check(reference + F(0.5) * step, reference, reference - F(0.2) * step, quantised=True).status == "different"


@pytest.mark.parametrize(
    ("y", "plain", "status"),
    [
        ([7, 8], [7, 8], "equal"),
        ([7, 9], [7, 8], "different"),
        ([7, 9], [8, 8], "unknown"),
        ([9, 11], [7, 9], "different"),
    ],
)
def test_integers_are_exact_unless_the_reference_is_not(y, plain, status):
    assert (
        check(np.array(y, np.uint8), np.array([7, 8], np.uint8), np.array(plain, np.uint8), quantised=True).status
        == status
    )


def test_one_step_in_one_element_of_floats_that_integers_lead_to():
    reference = np.arange(1000, dtype=F) / 8
    y = reference.copy()
    y[500] += F(1 / 8)
    assert check(y, reference, reference, quantised=True).status == "equal"
    assert check(y, reference, reference, quantised=True, exact=["y"]).status == "different"
    assert check(reference, reference, reference, quantised=True, exact=["y"]).rule == "exact"


def test_what_says_nothing():
    assert check(floats(np.nan, np.nan), floats(np.nan, np.nan)).status == "unknown"
    assert check(floats(1, np.nan), floats(1, np.nan)).status == "equal"
    assert check(floats(1, np.inf), floats(1, np.inf)).status == "equal"
    assert check(floats(1, np.inf), floats(1, -np.inf)).status == "different"
    assert check(floats(1, 0), floats(1, np.nan)).status == "different"
    assert check(floats(1, 0), floats(1, np.nan), lost=True).status == "equal"
    assert check(floats(3e-22), floats(0)).status == "equal"  # a sigmoid that has saturated
    assert check(floats(3e-5), floats(0)).status == "different"
    half = np.array([1, 1000], np.float16)
    assert check(half + np.array([0, 1], np.float16), half).status == "equal"
    assert check(half + np.array([0, 9], np.float16), half).status == "different"


@pytest.mark.parametrize(
    ("y", "reference", "status"),
    [
        ([floats(1), floats(2, 3)], [floats(1), floats(2, 3)], "equal"),
        ([floats(1), floats(2, 4)], [floats(1), floats(2, 3)], "different"),
        ([floats(1)], [floats(1), floats(2, 3)], "different"),
        ([floats(1)], floats(1), "different"),
        ([], [], "equal"),
        ([{0: 0.5, 1: 0.5}], [{0: 0.5, 1: 0.5}], "equal"),
        ([{0: 0.5, 1: 0.5}], [{0: 0.5, 2: 0.5}], "different"),
        ([{"a": 0.5}], [{"a": 0.25}], "different"),
        ({"a": floats(1)}, {"a": floats(1)}, "equal"),
        (None, None, "equal"),
        (None, floats(1), "different"),
        (np.array(["a", "bb"]), np.array(["a", "bb"]), "equal"),
        (np.array(["a", "bb"], object), np.array(["a", "b"], object), "different"),
        (np.array([True]), np.array([False]), "different"),
        (floats(1), np.array([1], np.int32), "different"),
        (floats(1), floats([1]), "different"),
        (object(), object(), "unknown"),
    ],
)
def test_outputs_of_every_type(y, reference, status):
    assert check(y, reference).status == status


def test_outputs_that_only_one_of_them_has():
    rules = Rules(1e-4, False, frozenset(), False, dict)
    found = check_outputs({"a": floats(1), "b": floats(1)}, {"a": floats(1), "c": floats(1)}, rules)
    assert [(each.name, each.status) for each in found] == [("a", "equal"), ("b", "unknown"), ("c", "unknown")]
    assert "no output 'b'" in found[1].note
    assert "an output 'c'" in found[2].note
    assert check_outputs({"b": floats(1)}, {"c": floats(1)}, rules) == ()
