"""The split of int8 products over threads."""

import pytest
from sparse_rt_kernels.product.u8s8 import sizes
from sparse_rt_kernels.product.u8s8.partition import partition


@pytest.mark.parametrize("threads", [1, 2, 3, 16])
@pytest.mark.parametrize(("rows", "channels"), [(1, 1), (1, 1000), (49, 512), (384, 768), (5000, 3)])
def test_work_is_split_no_finer_than_it_is(threads, rows, channels):
    parts = partition(rows, channels, threads)
    assert parts.row_parts <= -(-rows // sizes.ROWS)
    assert parts.channel_parts <= -(-channels // sizes.CHANNELS)
    assert parts.tasks == 1 or threads > 1
