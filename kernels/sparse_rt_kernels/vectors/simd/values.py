"""Types of vectors, constants, and addresses."""

from collections.abc import Sequence
from typing import Any

from llvmlite import ir

from sparse_rt_kernels.jit.llvm import I8, I64

__all__ = ["constant", "element", "pointer", "vector"]


def vector(item: Any, lanes: int) -> Any:
    """Return the IR type of `lanes` items: ``vector(F32, 16)`` is ``<16 x float>``."""
    return ir.VectorType(item, lanes)


def constant(item: Any, lanes: Sequence[int] | Sequence[float]) -> Any:
    """Return a constant vector."""
    return ir.Constant(vector(item, len(lanes)), list(lanes))


def pointer(builder: Any, address: Any) -> Any:
    """Return an address (an intp value in the kernel) as a byte pointer."""
    return builder.inttoptr(address, I8.as_pointer())


def element(builder: Any, base: Any, offset: Any) -> Any:
    """Return the byte pointer `base` moved by `offset` bytes, an IR integer or a Python int."""
    if isinstance(offset, int):
        offset = I64(offset)
    return builder.gep(base, [offset], source_etype=I8)
