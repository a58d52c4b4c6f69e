"""LLVM's scalar types. Called with a value, each makes a constant: ``I64(8)``."""

from llvmlite import ir

__all__ = ["F32", "I1", "I16", "I32", "I64", "I8"]

I1 = ir.IntType(1)
I8 = ir.IntType(8)
I16 = ir.IntType(16)
I32 = ir.IntType(32)
I64 = ir.IntType(64)
F32 = ir.FloatType()
