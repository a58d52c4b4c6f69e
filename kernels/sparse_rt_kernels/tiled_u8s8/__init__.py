"""int8 GEMM and convolution for any vector width, 2:4 and dense: lanes are output channels."""

from sparse_rt_kernels.product.registry import register
from sparse_rt_kernels.tiled_u8s8.kernel import kernel_for

__all__: list[str] = []

for _format in ("n2m4", "dense"):
    register(kernel_for("avx512", _format, 16, has_dot=False))
    register(kernel_for("avx2vnni", _format, 8, has_dot=True))
    register(kernel_for("avx2", _format, 8, has_dot=False))
# The 2:4 kernel of this tier is a family of its own, which expands indexes by an instruction that only it has.
register(kernel_for("avx512vnni", "dense", 16, has_dot=True))
