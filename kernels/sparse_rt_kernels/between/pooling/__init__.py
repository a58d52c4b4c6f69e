"""Pooling of planes (NCHW), as launches of native tasks. Under ``NUMBA_DISABLE_JIT`` there is none."""

from sparse_rt_kernels.between.pooling.average_pool import prepare_average_pool, prepare_quantised_average_pool
from sparse_rt_kernels.between.pooling.max_pool import prepare_max_pool

__all__ = ["prepare_average_pool", "prepare_max_pool", "prepare_quantised_average_pool"]
