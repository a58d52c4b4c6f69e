"""The vector vocabulary: each operation as LLVM IR, beside its meaning in NumPy.

A kernel is a Numba intrinsic that unrolls a tile in Python and emits these operations. Plain IR on ``<16 x float>``
and its like compiles for every CPU (LLVM splits what is wider than a register); the operations that name x86
instructions say so and belong in kernels of that tier only.

Every operation is an :class:`Operation`: call it with a builder and IR values to emit it; call its ``meaning`` with
arrays to compute what the emitted code computes. Tests run both over the same lanes.
"""

from sparse_rt_kernels.jit.compiler import emitter
from sparse_rt_kernels.vectors.simd.conversions import (
    narrow_to_byte,
    nearest_int,
    pack_int16,
    pack_uint8,
    round_to_int,
    to_float,
    widen_byte,
)
from sparse_rt_kernels.vectors.simd.dots import dot_s16, dot_u8s8
from sparse_rt_kernels.vectors.simd.floats import fadd, fma, fmultiply, fsubtract, larger, smaller
from sparse_rt_kernels.vectors.simd.integers import (
    add,
    add_saturated,
    bitwise_and,
    bitwise_xor,
    larger_byte,
    multiply,
    shift_right,
    smaller_byte,
    subtract,
)
from sparse_rt_kernels.vectors.simd.marks import in_order, in_register
from sparse_rt_kernels.vectors.simd.memory import (
    gather,
    load,
    load_first,
    load_masked,
    prefetch,
    store,
    store_first,
    store_masked,
)
from sparse_rt_kernels.vectors.simd.operation import OPERATIONS, Operation
from sparse_rt_kernels.vectors.simd.permutes import (
    multishift,
    permute,
    permute_bytes,
    permute_two,
    permute_two_floats,
    shuffle_bytes,
)
from sparse_rt_kernels.vectors.simd.shuffles import bitcast, broadcast, shuffle, transpose
from sparse_rt_kernels.vectors.simd.values import constant, element, item, pointer, vector

__all__ = [
    "OPERATIONS",
    "Operation",
    "emitter",
    "add",
    "add_saturated",
    "bitcast",
    "bitwise_and",
    "bitwise_xor",
    "broadcast",
    "constant",
    "dot_s16",
    "dot_u8s8",
    "element",
    "fadd",
    "fma",
    "fmultiply",
    "fsubtract",
    "gather",
    "in_order",
    "in_register",
    "item",
    "larger",
    "larger_byte",
    "load",
    "load_first",
    "load_masked",
    "multiply",
    "multishift",
    "narrow_to_byte",
    "nearest_int",
    "pack_int16",
    "pack_uint8",
    "permute",
    "permute_bytes",
    "permute_two",
    "permute_two_floats",
    "pointer",
    "prefetch",
    "round_to_int",
    "shift_right",
    "shuffle",
    "shuffle_bytes",
    "smaller",
    "smaller_byte",
    "store",
    "store_first",
    "store_masked",
    "subtract",
    "to_float",
    "transpose",
    "vector",
    "widen_byte",
]
