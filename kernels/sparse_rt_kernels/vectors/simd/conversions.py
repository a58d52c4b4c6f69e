"""From one kind of number to another."""

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir

from sparse_rt_kernels.jit.compiler import cgutils
from sparse_rt_kernels.jit.llvm import F32, I8, I16, I32
from sparse_rt_kernels.vectors.simd.operation import Array, call_instruction, operation
from sparse_rt_kernels.vectors.simd.values import vector

__all__ = ["narrow_to_byte", "nearest_int", "pack_int16", "pack_uint8", "round_to_int", "to_float", "widen_byte"]


@operation(lambda a: a.astype(np.float32))
def to_float(builder: Any, a: Any) -> Any:
    """int32 to float32, half to even."""
    return builder.sitofp(a, vector(F32, a.type.count))


@operation(lambda a: np.rint(a).astype(np.int32))
def round_to_int(builder: Any, a: Any) -> Any:
    """float32 to int32, half to even; the caller has brought every lane into int32's range (NaN is undefined)."""
    signature = ir.FunctionType(a.type, [a.type])
    rint = cgutils.get_or_insert_function(builder.module, signature, f"llvm.rint.v{a.type.count}f32")
    return builder.fptosi(builder.call(rint, [a]), vector(I32, a.type.count))


def _nearest_meaning(a: Array) -> Array:
    inside = (a >= -(2.0**31)) & (a < 2.0**31)
    return np.where(inside, np.rint(np.where(inside, a, 0)), -(2.0**31)).astype(np.int64).astype(np.int32)


@operation(_nearest_meaning, needs="avx512")
def nearest_int(builder: Any, a: Any) -> Any:
    """<16 x float> to int32, half to even; -2**31 for NaN and for what int32 does not hold: vcvtps2dq."""
    kind = vector(I32, 16)
    name = "llvm.x86.avx512.mask.cvtps2dq.512"
    signature = ir.FunctionType(kind, [a.type, kind, I16, I32])
    function = cgutils.get_or_insert_function(builder.module, signature, name)
    # All lanes, in the rounding mode that the thread is in.
    return builder.call(function, [a, ir.Constant(kind, None), I16(-1), I32(4)])


@operation(lambda a: a.astype(np.uint8))
def narrow_to_byte(builder: Any, a: Any) -> Any:
    """Return the low byte of each integer lane."""
    return builder.trunc(a, vector(I8, a.type.count))


@operation(lambda a: a.view(np.uint8).astype(np.int32))
def widen_byte(builder: Any, a: Any) -> Any:
    """Return unsigned bytes as int32 lanes."""
    return builder.zext(a, vector(I32, a.type.count))


def _pack_meaning(dtype: Any) -> Callable[[Array, Array], Array]:
    def meaning(a: Array, b: Array) -> Array:
        info = np.iinfo(dtype)
        quarters = np.stack([a.reshape(4, -1), b.reshape(4, -1)], axis=1)
        return quarters.clip(info.min, info.max).astype(dtype).ravel()

    return meaning


@operation(_pack_meaning(np.int16), needs="avx512")
def pack_int16(builder: Any, a: Any, b: Any) -> Any:
    """Saturate int32 to int16; within each 16 bytes, lanes of a, then of b: vpackssdw, <16 x i32> to <32 x i16>."""
    return call_instruction(builder, "llvm.x86.avx512.packssdw.512", vector(I16, 32), [a, b])


@operation(_pack_meaning(np.uint8), needs="avx512")
def pack_uint8(builder: Any, a: Any, b: Any) -> Any:
    """Saturate int16 to uint8; within each 16 bytes, lanes of a, then of b: vpackuswb, <32 x i16> to <64 x i8>."""
    return call_instruction(builder, "llvm.x86.avx512.packuswb.512", vector(I8, 64), [a, b])
