"""Kernels as custom operators of onnxruntime: a library, and what makes its kernels in a process with Python."""
