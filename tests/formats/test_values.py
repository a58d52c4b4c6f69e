"""What formats have in common in how they keep numbers."""

import numpy as np
import pytest

from sparse_rt.errors import FormatError
from sparse_rt.formats.values import int8_values, require_weight, scaled_values


@pytest.mark.parametrize(
    ("values", "factor"), [([1e-20], 1e-20), ([1e30], 1e30), ([3.0], 1e-39), ([3], 1e-39), ([3], 2e38)]
)
def test_a_factor_that_loses_digits_is_refused(values, factor):
    values = np.array(values, np.int8 if isinstance(values[0], int) else np.float32)
    assert scaled_values(values, np.float32([factor])) is None


@pytest.mark.parametrize(("values", "factor"), [([0.0, -0.0], 1e-45), ([5.0], 0.0), ([3], 0.0), ([np.inf, 1e30], 1e30)])
def test_zeros_and_weights_that_are_not_finite_are_scaled(values, factor):
    values = np.array(values, np.int8 if isinstance(values[0], int) else np.float32)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(scaled_values(values, np.float32([factor])), values * np.float32(factor))


def test_int8_values_are_a_view():
    values = np.array([0, 127], np.uint8)
    assert np.shares_memory(int8_values(values), values)
    assert int8_values(np.array([0, 128], np.uint8)) is None


@pytest.mark.parametrize("bad", [np.zeros(4, np.int8), np.zeros((4, 4), np.int32), [[1]]])
def test_what_can_be_stored(bad):
    with pytest.raises(FormatError, match="layer 'l'"):
        require_weight(bad, "layer 'l'")
