"""Products of small integers, summed in int32 lanes: x86 instructions."""

from typing import Any

import numpy as np

from sparse_rt_kernels.jit.llvm import I32
from sparse_rt_kernels.vectors.simd.operation import Array, call_instruction, operation
from sparse_rt_kernels.vectors.simd.values import vector

__all__ = ["dot_s16", "dot_u8s8"]


def _dot_meaning(acc: Array, a: Array, b: Array) -> Array:
    products = a.view(np.uint8).astype(np.int32) * b.view(np.int8).astype(np.int32)
    total: Array = acc + products.reshape(-1, 4).sum(axis=1, dtype=np.int32)
    return total


@operation(_dot_meaning, needs="avx512vnni")
def dot_u8s8(builder: Any, acc: Any, a: Any, b: Any) -> Any:
    """Add 4 products of unsigned bytes of a and signed bytes of b to each lane, wrapping: vpdpbusd.

    All are <16 x i32>, or <8 x i32>, which AVX-VNNI suffices for.
    """
    name = f"llvm.x86.avx512.vpdpbusd.{32 * acc.type.count}"
    return call_instruction(builder, name, acc.type, [acc, a, b])


def _dot_s16_meaning(a: Array, b: Array) -> Array:
    products = a.astype(np.int32) * b.astype(np.int32)
    total: Array = products.reshape(-1, 2).sum(axis=1, dtype=np.int32)
    return total


@operation(_dot_s16_meaning, needs="avx512")
def dot_s16(builder: Any, a: Any, b: Any) -> Any:
    """Return the sums of 2 products of int16 lanes, wrapping: vpmaddwd.

    a and b are <32 x i16>, or <16 x i16>, which AVX2 suffices for; the result has half as many i32 lanes.
    """
    lanes = a.type.count // 2
    name = "llvm.x86.avx512.pmaddw.d.512" if lanes == 16 else "llvm.x86.avx2.pmadd.wd"
    return call_instruction(builder, name, vector(I32, lanes), [a, b])
