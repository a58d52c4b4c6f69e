"""What becomes of integer sums, against exact arithmetic."""

import numpy as np
import pytest

from sparse_rt.plan.steps.requantisation import Requantisation, accumulator_fits, float_epilogue

LIMIT = 2**31 - 1


def test_offsets_take_in_the_bias_and_the_zero_point_and_wrap_like_int32():
    row_sums = np.array([3, -5, 2**24], np.int64)
    bias = np.array([10, -(2**31), LIMIT], np.int64)
    scale = np.array([0.5, 0.25, 2.0], np.float32)
    made = Requantisation.of(
        row_sums, scale, np.float32(0.1), zero_point=7, bias_integer=bias, bias=None, low=-1.0, high=np.inf
    )
    for point in (0, 255):
        epilogue = made.epilogue(point)
        exact = [int(b) - point * int(s) for b, s in zip(bias, row_sums, strict=True)]
        assert epilogue.offset.tolist() == [(value + 2**31) % 2**32 - 2**31 for value in exact]
    np.testing.assert_array_equal(epilogue.scale, scale / np.float32(0.1))
    assert (epilogue.low, epilogue.high, epilogue.zero_point) == (np.float32(-1) / np.float32(0.1), np.inf, 7)
    np.testing.assert_array_equal(made.epilogue(0, np.float32([2, 2, 2])).scale, scale / np.float32(0.1) * 2)


@pytest.mark.parametrize(("room", "fits"), [(0, True), (-1, False)])
def test_accumulators_fit_up_to_the_last_integer(room, fits):
    weight = LIMIT // 255
    bias = LIMIT - 255 * weight - room
    assert accumulator_fits(np.array([weight]), np.array([bias])) is fits
    assert accumulator_fits(np.array([weight]), np.array([-bias])) is fits


def test_floats_without_a_bias_add_zeros():
    epilogue = float_epilogue(4, None, 0.0, 6.0)
    assert epilogue.bias.tolist() == [0.0] * 4
    assert (epilogue.low, epilogue.high) == (0.0, 6.0)
