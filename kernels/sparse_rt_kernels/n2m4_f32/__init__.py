"""float32 activations, 2:4 float32 weights: lanes are activation rows, weights are broadcast."""

from sparse_rt_kernels.n2m4_f32.kernels import PORTABLE, SIMD
from sparse_rt_kernels.registry import register

__all__ = ["PORTABLE", "SIMD"]

register(SIMD)
register(PORTABLE)
