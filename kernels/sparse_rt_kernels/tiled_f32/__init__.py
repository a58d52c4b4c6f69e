"""float32 GEMM and convolution for any vector width, 2:4 and dense: lanes are activation rows."""

from sparse_rt_kernels.product.registry import register
from sparse_rt_kernels.tiled_f32.kernel import kernel_for

__all__: list[str] = []

register(kernel_for("avx2", "n2m4", lanes=8, vectors=6, channels=2))
register(kernel_for("avx2", "dense", lanes=8, vectors=6, channels=2))
# The 2:4 kernel of this tier is a family of its own.
register(kernel_for("avx512", "dense", lanes=16, vectors=6, channels=4))
