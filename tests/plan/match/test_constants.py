"""Constants as the planner reads them, against NumPy."""

import itertools

import numpy as np

from sparse_rt.plan.match.constants import per_channel


def test_per_channel_is_what_broadcasting_means():
    """Against NumPy: accepted exactly where the output keeps its shape and varies along the channels alone."""
    n = 3
    for rank, axis in [(2, 1), (3, 1), (4, 3), (3, 2)]:
        shape = [5, 4, 6, 7][:rank]
        shape[rank - axis] = n
        for ndim in range(rank + 2):
            for sizes in itertools.product((1, n, 5), repeat=ndim):
                array = np.arange(np.prod(sizes, dtype=int), dtype=np.float32).reshape(sizes)
                found = per_channel(array, n, axis, rank)
                expected_shape = [1] * rank
                expected_shape[rank - axis] = n
                try:
                    fits = np.broadcast_shapes(sizes, expected_shape) == tuple(expected_shape)
                except ValueError:
                    fits = False
                assert (found is not None) == (fits and ndim <= rank), (sizes, rank, axis)
                if found is not None:
                    full = np.broadcast_to(array, expected_shape).reshape(n)
                    np.testing.assert_array_equal(found, full)
