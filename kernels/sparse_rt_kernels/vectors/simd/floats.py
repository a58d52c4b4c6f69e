"""Float arithmetic: each operation is rounded on its own, never contracted."""

from typing import Any

import numpy as np
from llvmlite import ir

from sparse_rt_kernels.jit.compiler import cgutils
from sparse_rt_kernels.vectors.simd.operation import operation

__all__ = ["fadd", "fma", "fmultiply", "fsubtract", "larger", "smaller"]


@operation(lambda a, b: a + b)
def fadd(builder: Any, a: Any, b: Any) -> Any:
    """Add floats."""
    return builder.fadd(a, b)


@operation(lambda a, b: a - b)
def fsubtract(builder: Any, a: Any, b: Any) -> Any:
    """Subtract floats."""
    return builder.fsub(a, b)


@operation(lambda a, b: a * b)
def fmultiply(builder: Any, a: Any, b: Any) -> Any:
    """Multiply floats."""
    return builder.fmul(a, b)


# A float32 product is exact in float64; rounding the sum twice differs from once in rare ties only.
@operation(lambda a, b, c: (a.astype(np.float64) * b + c).astype(np.float32))
def fma(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """Multiply and add floats: a * b + c, rounded once."""
    signature = ir.FunctionType(a.type, [a.type] * 3)
    name = f"llvm.fma.v{a.type.count}f32" if isinstance(a.type, ir.VectorType) else "llvm.fma.f32"
    return builder.call(cgutils.get_or_insert_function(builder.module, signature, name), [a, b, c])


@operation(lambda a, b: np.where(a > b, a, b))
def larger(builder: Any, a: Any, b: Any) -> Any:
    """Return a where a > b, else b: if either is NaN, b. One x86 instruction; put the value to keep as NaN second."""
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


@operation(lambda a, b: np.where(a < b, a, b))
def smaller(builder: Any, a: Any, b: Any) -> Any:
    """Return a where a < b, else b: if either is NaN, b."""
    return builder.select(builder.fcmp_ordered("<", a, b), a, b)
