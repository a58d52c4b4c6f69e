"""Pooling of planes (NCHW), as launches of native tasks. Under ``NUMBA_DISABLE_JIT`` there is none."""

from sparse_rt_kernels.between.pooling.average_pool import prepare_quantised_average_pool
from sparse_rt_kernels.between.pooling.global_average_pool import (
    prepare_global_average_pool,
    prepare_quantised_global_average_pool,
)
from sparse_rt_kernels.between.pooling.max_pool import prepare_max_pool
from sparse_rt_kernels.between.pooling.window import Window

__all__ = [
    "Window",
    "prepare_global_average_pool",
    "prepare_max_pool",
    "prepare_quantised_average_pool",
    "prepare_quantised_global_average_pool",
]
