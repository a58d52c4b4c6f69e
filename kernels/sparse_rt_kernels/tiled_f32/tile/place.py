"""Addresses of items, as the micro-kernels emit them."""

from typing import Any

from sparse_rt_kernels.jit.llvm import I64
from sparse_rt_kernels.vectors import simd

__all__ = ["at"]


def at(builder: Any, base: Any, index: Any, size: Any) -> Any:
    """Return the byte pointer `index` items of `size` bytes after the address `base`."""
    size = I64(size) if isinstance(size, int) else size
    return simd.pointer(builder, builder.add(base, builder.mul(index, size)))
