"""Values that LLVM must not look through, or not move: marks for its optimiser."""

from typing import Any

from llvmlite import ir

from sparse_rt_kernels.vectors.simd.operation import operation

__all__ = ["in_order", "in_register"]


@operation(lambda a: a, needs="avx512")
def in_register(builder: Any, a: Any) -> Any:
    """Return the vector `a` unchanged, but as if LLVM did not know where it came from.

    LLVM turns "broadcast lane i of a loaded vector" into one load a lane; where loads are the bottleneck and shuffles
    are free, this keeps it one load and shuffles.
    """
    signature = ir.FunctionType(a.type, [a.type])
    return builder.asm(signature, "", "=v,0", [a], False)


@operation(lambda a: a, needs="avx512")
def in_order(builder: Any, a: Any) -> Any:
    """Return a vector or an integer unchanged; LLVM keeps the order of such marks, and with it what lies between them.

    LLVM's scheduler moves an instruction next to the one that needs its result. A value marked when it is made and
    again before it is used keeps its distance. LLVM does not know where a marked value came from.
    """
    signature = ir.FunctionType(a.type, [a.type])
    register = "r" if isinstance(a.type, ir.IntType) else "v"
    return builder.asm(signature, "", f"={register},0", [a], True)
