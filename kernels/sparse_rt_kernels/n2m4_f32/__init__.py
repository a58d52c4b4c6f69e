"""float32 activations, 2:4 float32 weights: lanes are activation rows, weights are broadcast.

``out[m, n] = clip(sum_k x[m, k] * w[n, k] + bias[n], low, high)``, and the same over the pixels of a convolution. A
stored zero is skipped: an inf or NaN in x reaches an output only through a nonzero weight, so 0 x inf is 0 where a
dense engine gives NaN. `out` may hold NaN on entry. For shapes see :class:`sparse_rt_kernels.product.registry.Kernel`.
"""

from sparse_rt_kernels.n2m4_f32.kernel.portable import PORTABLE
from sparse_rt_kernels.n2m4_f32.kernel.simd import SIMD, SIMD_CHANNEL_LANES, SIMD_ROW_LANES
from sparse_rt_kernels.product.registry import register

__all__ = ["PORTABLE", "SIMD", "SIMD_CHANNEL_LANES", "SIMD_ROW_LANES"]

# The first of a tier is the one that is chosen; the others make each shape reachable with any number of rows.
for _kernel in (SIMD, SIMD_ROW_LANES, SIMD_CHANNEL_LANES, PORTABLE):
    register(_kernel)
