"""Kernels for the operators between layers, and for layers that are always dense."""
