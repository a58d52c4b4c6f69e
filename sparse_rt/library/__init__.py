"""Kernels as custom operators of onnxruntime: a library, and what makes its kernels in a process with Python."""

from sparse_rt import late_sympy  # noqa: F401  it imports onnx_ir
