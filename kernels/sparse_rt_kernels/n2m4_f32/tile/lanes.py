"""One register of the float32 2:4 family: 16 lanes, and the words and masks that address them."""

from typing import Any

from llvmlite import ir

from sparse_rt_kernels.jit.compiler import types
from sparse_rt_kernels.jit.llvm import I64
from sparse_rt_kernels.vectors.registers import LANES, MASK

__all__ = ["bits_of", "mask_of", "returns_intp"]


def returns_intp(arguments: int) -> Any:
    """Return the signature of so many words that returns a I64."""
    return types.intp(*[types.intp] * arguments)


def mask_of(builder: Any, bits: Any) -> Any:
    """Return the low 16 bits of an i64 as a mask of lanes."""
    return builder.bitcast(builder.trunc(bits, ir.IntType(LANES)), MASK)


def bits_of(builder: Any, mask: Any) -> Any:
    """Return a mask of lanes as the low 16 bits of an i64."""
    return builder.zext(builder.bitcast(mask, ir.IntType(LANES)), I64)
