"""Patterns as values, and the tables that know them."""

import numpy as np
import pytest

from sparse_rt import sparsity
from sparse_rt.errors import PatternError
from sparse_rt.sparsity import Missed, Pattern, Violation
from sparse_rt.sparsity.nm import NM, TWO_FOUR


def test_a_pattern_is_a_value():
    assert isinstance(TWO_FOUR, Pattern)
    assert {NM(2, 4)} == {TWO_FOUR}
    assert (TWO_FOUR.name, TWO_FOUR.density) == ("2:4", 0.5)


def test_what_is_no_pattern_is_refused():
    for function in (sparsity.check, sparsity.holds, sparsity.require, sparsity.magnitude_mask):
        with pytest.raises(PatternError, match="a Pattern"):
            function(np.zeros((4, 4)), "2:4")


@pytest.mark.parametrize(
    ("violation", "text"),
    [
        (Violation(3, (), 4, 7, 3), "3 nonzeros in row 3, columns 4..7"),
        (Violation(4, (), 2, 2, 1, rows=4), "1 nonzeros in rows 4..7, columns 2..2"),
        (
            Violation(1, (0, 2), 0, 3, 4),
            "4 nonzeros in output channel 1, kernel position (0, 2), input channels 0..3",
        ),
        (
            Violation(8, (1,), 5, 5, 2, rows=2),
            "2 nonzeros in output channels 8..9, kernel position (1), input channels 5..5",
        ),
    ],
)
def test_a_violation_in_words(violation, text):
    assert str(violation) == text
    assert str(Missed(TWO_FOUR, violation)) == f"not 2:4: {text}"


def test_find_all():
    assert sparsity.find_all(np.eye(4)) == (TWO_FOUR,)
    assert sparsity.find_all(np.ones((4, 4))) == ()


def test_a_mask_of_any_scores():
    scores = np.array([[0.5, 2.0, 2.0, 3.0, 0.0, 0.0, 1.0]])
    np.testing.assert_array_equal(TWO_FOUR.mask(scores), [[False, True, False, True, True, False, True]])
    np.testing.assert_array_equal(TWO_FOUR.mask(scores, 0.5), TWO_FOUR.mask(scores))
    with pytest.raises(PatternError, match="density"):
        TWO_FOUR.mask(scores, 0.25)
