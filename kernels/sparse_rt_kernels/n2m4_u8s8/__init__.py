"""int8 2:4 GEMM and convolution, lanes = output channels."""

from sparse_rt_kernels.n2m4_u8s8.kernel import KERNEL
from sparse_rt_kernels.n2m4_u8s8.layout import MAX_K
from sparse_rt_kernels.registry import register

__all__ = ["KERNEL", "MAX_K"]

register(KERNEL)
