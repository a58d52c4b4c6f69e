"""JIT-compiled sparse kernels: arrays and CPUs, never ONNX, never files."""

# Importing a family registers its kernels.
from sparse_rt_kernels import n2m4_f32, n2m4_u8s8, tiled_f32, tiled_u8s8

__all__ = ["n2m4_f32", "n2m4_u8s8", "tiled_f32", "tiled_u8s8"]
