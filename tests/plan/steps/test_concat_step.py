"""Arrays put together along an axis, against NumPy."""

import numpy as np
import pytest
from numba.core import config
from sparse_rt_kernels.threads.pool import ThreadPool

from sparse_rt import FeedError
from sparse_rt.plan.steps.concat_step import ConcatStep

U8 = np.dtype(np.uint8)


def step(axis, tables=(None, None)):
    return ConcatStep("Concat", "c", ("a", "b"), (U8, U8), "y", U8, axis, tables, None)


@pytest.mark.skipif(bool(config.DISABLE_JIT), reason="the kernel is machine code")
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_bytes_are_put_together_each_by_its_table(axis):
    rng = np.random.default_rng(1)
    shapes = [[4, 5, 6], [4, 5, 6]]
    shapes[1][axis] = 9
    values = {name: rng.integers(0, 256, shape).astype(np.uint8) for name, shape in zip("ab", shapes, strict=True)}
    table = rng.permutation(256).astype(np.uint8)
    expected = np.concatenate([values["a"], table[values["b"]]], axis)
    step(axis, (None, table)).run(values, ThreadPool(1))
    np.testing.assert_array_equal(values["y"], expected)


def test_shapes_that_do_not_fit_are_refused_in_a_run_and_unknown_while_planning():
    odd = [(2, 3), (3, 4)]
    with pytest.raises(FeedError, match=r"Concat 'c': expected shapes that differ on axis 1 only"):
        step(1).bind(odd, 1)
    assert step(1).output_shape(odd) is None
    assert step(1).output_shape([(2, 3), (2, None)]) is None
    assert step(1).output_shape([(2, 3), (2, 4)]) == (2, 7)
