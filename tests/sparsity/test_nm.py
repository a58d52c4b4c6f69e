import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparse_rt import sparsity
from sparse_rt.errors import PatternError
from sparse_rt.sparsity.nm import NM, TWO_FOUR
from tests import naive

SHAPES = st.one_of(
    st.tuples(st.integers(0, 6), st.integers(0, 19)),
    st.tuples(st.integers(0, 4), st.integers(0, 11), st.integers(0, 3)),
    st.tuples(st.integers(0, 4), st.integers(0, 11), st.integers(0, 3), st.integers(1, 3)),
)
DTYPES = st.sampled_from([np.int8, np.uint8, np.int32, np.float16, np.float32, np.float64])


def sprinkled(seed, shape, dtype, density=0.45):
    rng = np.random.default_rng(seed)
    return (rng.integers(-5, 6, shape) * (rng.random(shape) < density)).astype(dtype)


@pytest.mark.parametrize(("text", "n", "m"), [("2:4", 2, 4), (" 1 : 4 ", 1, 4), ("4:8", 4, 8), ("4:4", 4, 4)])
def test_parse(text, n, m):
    assert sparsity.parse(text) == NM(n, m)


@pytest.mark.parametrize("text", ["", "2:", "4:2", "0:4", "-1:4", "2:4:8", "two", "2.0:4", "2/4", "2:4x"])
def test_parse_refuses_what_is_no_pattern(text):
    with pytest.raises(PatternError, match="expected"):
        sparsity.parse(text)


@pytest.mark.parametrize("text", ["4x1", "16x4", "unstructured"])
def test_parse_says_what_is_not_implemented(text):
    with pytest.raises(PatternError, match="not implemented"):
        sparsity.parse(text)


def test_pattern_prints_as_it_is_written():
    assert str(TWO_FOUR) == "2:4"


@settings(max_examples=120, deadline=None)
@given(SHAPES, DTYPES, st.integers(0, 2**32), st.sampled_from([(2, 4), (1, 4), (4, 8), (1, 3)]))
def test_check_finds_the_first_violation(shape, dtype, seed, pattern):
    w = sprinkled(seed, shape, dtype)
    found = sparsity.check(w, NM(*pattern))
    expected = naive.first_violation(w, *pattern)
    assert (found and (found.row, found.position, found.first, found.last, found.count)) == expected
    assert sparsity.holds(w, NM(*pattern)) == (expected is None)


@settings(max_examples=120, deadline=None)
@given(SHAPES, DTYPES, st.integers(0, 2**32), st.sampled_from([(2, 4), (1, 4), (4, 8), (1, 3)]))
def test_magnitude_mask_keeps_the_largest_and_of_equals_the_earliest(shape, dtype, seed, pattern):
    w = sprinkled(seed, shape, dtype, density=0.9)
    mask = sparsity.magnitude_mask(w, NM(*pattern))
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, naive.magnitude_mask(w, *pattern))
    assert sparsity.holds(w * mask, NM(*pattern))


def test_mask_ranks_the_most_negative_integer_first():
    w = np.array([[127, -128, 126, -127]], np.int8)
    np.testing.assert_array_equal(sparsity.magnitude_mask(w, TWO_FOUR), [[True, True, False, False]])


def test_mask_keeps_nan_and_infinity_visible():
    w = np.array([[1e30, np.inf, np.nan, 2.0]], np.float32)
    np.testing.assert_array_equal(sparsity.magnitude_mask(w, TWO_FOUR), [[False, True, True, False]])


def test_nan_is_nonzero_and_negative_zero_is_zero():
    assert sparsity.holds(np.array([[np.nan, np.nan, -0.0, -0.0]], np.float16), TWO_FOUR)
    assert not sparsity.holds(np.array([[np.nan, np.nan, np.nan, 0]], np.float16), TWO_FOUR)


def test_check_agrees_with_the_source_documents_loop():
    """NVIDIA's rule, written as its guide does: K, C, R, S with C % 4 == 0."""
    rng = np.random.default_rng(3)
    for _ in range(20):
        w = sprinkled(rng.integers(2**32), (3, 8, 2, 2), np.float32, density=0.3)
        bad = any(
            np.count_nonzero(w[k, 4 * c : 4 * c + 4, r, s]) > 2
            for k in range(3)
            for r in range(2)
            for s in range(2)
            for c in range(2)
        )
        assert sparsity.holds(w, TWO_FOUR) is not bad


def test_the_message_of_a_matrix():
    w = np.zeros((768, 3072), np.float32)
    w[17, 40:43] = 1
    with pytest.raises(PatternError) as raised:
        sparsity.require(w, TWO_FOUR, "layer 'fc1'")
    assert str(raised.value) == (
        "layer 'fc1' (768, 3072): expected 2:4 along k, got 3 nonzeros in row 17, columns 40..43. "
        "Prune it first, or leave it dense."
    )


def test_the_message_of_a_kernel():
    w = np.zeros((4, 10, 3, 3), np.int8)
    w[2, 0:4, 1, 2] = 1
    with pytest.raises(
        PatternError, match=r"4 nonzeros in output channel 2, kernel position \(1, 2\), input channels 0"
    ):
        sparsity.require(w, TWO_FOUR)
    sparsity.require(w * sparsity.magnitude_mask(w, TWO_FOUR), TWO_FOUR)


def test_a_partial_group_counts_as_padded():
    assert sparsity.holds(np.ones((3, 2, 3, 3)), TWO_FOUR)
    violation = sparsity.check(np.ones((3, 3)), TWO_FOUR)
    assert (violation.first, violation.last, violation.count) == (0, 2, 3)


def test_strides_and_byte_order_do_not_matter():
    w = sprinkled(5, (7, 9), np.float32)
    assert sparsity.check(np.asfortranarray(w), TWO_FOUR) == sparsity.check(w, TWO_FOUR)
    assert sparsity.check(w.astype(">f4"), TWO_FOUR) == sparsity.check(w, TWO_FOUR)
    assert sparsity.check(w[::-1, ::-1][::-1, ::-1], TWO_FOUR) == sparsity.check(w, TWO_FOUR)


def test_the_weight_is_not_touched():
    for dtype in (np.int8, np.float32):
        w = sprinkled(6, (5, 8), dtype)
        w.flags.writeable = False
        sparsity.magnitude_mask(w, TWO_FOUR)
        sparsity.check(w, TWO_FOUR)


def test_find():
    assert sparsity.find(np.eye(4)) == TWO_FOUR
    assert sparsity.find(np.ones((4, 4))) is None


@pytest.mark.parametrize("w", [np.zeros(4), np.array(1.0), np.array([["a"]]), np.zeros((2, 4), complex)])
def test_what_is_no_weight_is_refused(w):
    with pytest.raises(PatternError, match="expected"):
        sparsity.check(w, TWO_FOUR)


def test_density():
    assert sparsity.density(np.eye(4)) == 0.25
    assert sparsity.density(np.zeros((0, 4))) == 0.0
    assert math.isclose(sparsity.density(np.array([[0, 1, np.nan]])), 2 / 3)
