"""Types of vectors, constants, and addresses."""

from collections.abc import Sequence
from typing import Any

from llvmlite import ir

from sparse_rt_kernels.jit.llvm import I8, I64

__all__ = ["constant", "element", "item", "pointer", "vector"]


def vector(item: Any, lanes: int) -> Any:
    """Return the IR type of `lanes` items: ``vector(F32, 16)`` is ``<16 x float>``."""
    return ir.VectorType(item, lanes)


def constant(item: Any, lanes: Sequence[int] | Sequence[float]) -> Any:
    """Return a constant vector."""
    return ir.Constant(vector(item, len(lanes)), list(lanes))


def pointer(builder: Any, address: Any, offset: Any = None) -> Any:
    """Return an address (an intp value in the kernel), moved by an IR integer of bytes if any, as a byte pointer."""
    return builder.inttoptr(address if offset is None else builder.add(address, offset), I8.as_pointer())


def item(builder: Any, base: Any, number: Any, size: int, offset: int = 0) -> Any:
    """Return the byte pointer `offset` bytes into item `number`, of `size` bytes each, from the address `base` on."""
    number = I64(number) if isinstance(number, int) else number
    place = builder.add(base, builder.mul(number, I64(size)))
    return pointer(builder, place, I64(offset) if offset else None)


def element(builder: Any, base: Any, offset: Any) -> Any:
    """Return the byte pointer `base` moved by `offset` bytes, an IR integer or a Python int."""
    if isinstance(offset, int):
        offset = I64(offset)
    return builder.gep(base, [offset], source_etype=I8)
