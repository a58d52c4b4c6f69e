"""Attention: softmax(query key^T * scale + mask) value, for each batch and head."""

from sparse_rt_kernels.attention.floats import is_available, prepare_attention
from sparse_rt_kernels.attention.problem import Attention, Place

__all__ = ["Attention", "Place", "is_available", "prepare_attention"]
