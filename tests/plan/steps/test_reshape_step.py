"""Another shape for the same elements, against NumPy."""

import numpy as np
import pytest

from sparse_rt import FeedError
from sparse_rt.plan.steps.reshape_step import ReshapeStep

F32 = np.dtype(np.float32)
STEP = ReshapeStep("Reshape", "r", ("x",), (F32,), "y", F32, lambda shape: (shape[0], -1))


def test_elements_stay_where_they_are():
    values = {"x": np.arange(24, dtype=np.float32).reshape(2, 3, 4)}
    STEP.run(values, None)
    np.testing.assert_array_equal(values["y"], values["x"].reshape(2, 12))
    assert np.shares_memory(values["x"], values["y"])
    assert STEP.bind([(2, 3, 4)], 1) == ((2, 12), None, True)


def test_the_shape_is_known_where_x_is():
    assert STEP.output_shape([(5, 2, 3)]) == (5, 6)
    assert STEP.output_shape([(None, 2, 3)]) is None
    assert STEP.output_shape([None]) is None


def test_elements_that_do_not_fill_a_shape_are_refused():
    step = ReshapeStep("Reshape", "r", ("x",), (F32,), "y", F32, lambda shape: (7, -1))
    for run in (lambda: step.run({"x": np.zeros(8, np.float32)}, None), lambda: step.output_shape([(8,)])):
        with pytest.raises(FeedError, match=r"Reshape 'r'.*shape \(8,\)"):
            run()
