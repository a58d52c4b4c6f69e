"""int8 2:4 GEMM and convolution: lanes are output channels (SIMD) or activation rows (portable)."""

from sparse_rt_kernels.n2m4_u8s8.kernel.portable import PORTABLE
from sparse_rt_kernels.n2m4_u8s8.kernel.rows import VNNI
from sparse_rt_kernels.n2m4_u8s8.weight import MAX_K
from sparse_rt_kernels.product.registry import register

__all__ = ["MAX_K", "PORTABLE", "VNNI"]

register(VNNI)
register(PORTABLE)
