"""Attention: softmax(query key^T * scale + mask) value, for each batch and head."""

from sparse_rt_kernels.between.attention.floats import is_available, prepare_attention
from sparse_rt_kernels.between.attention.integers import (
    ByteOperand,
    QuantisedAttention,
    are_bytes_available,
    prepare_quantised_attention,
)
from sparse_rt_kernels.between.attention.problem import Attention, Place

__all__ = [
    "Attention",
    "ByteOperand",
    "Place",
    "QuantisedAttention",
    "are_bytes_available",
    "is_available",
    "prepare_attention",
    "prepare_quantised_attention",
]
