"""Sparse inference runtime for CPUs: 2:4 weights, Numba kernels, ONNX in and out."""
