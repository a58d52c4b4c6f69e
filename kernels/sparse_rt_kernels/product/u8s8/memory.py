"""Bytes, words and octets in memory, as integers.

Each is a Numba intrinsic on addresses (intp) that returns an intp: Numba may drop a call that returns nothing.
"""

from typing import Any

from sparse_rt_kernels.jit.compiler import cgutils, types
from sparse_rt_kernels.jit.llvm import I8, I32, I64
from sparse_rt_kernels.vectors import simd

__all__ = ["byte", "fill_bytes", "octet", "put_octet", "word"]


@simd.emitter
def octet(context: Any, address: Any) -> Any:
    """Return the 8 bytes at `address` as an integer."""

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        return simd.load(builder, simd.pointer(builder, given[0]), I64)

    return types.intp(types.intp), generate


@simd.emitter
def byte(context: Any, address: Any) -> Any:
    """Return the byte at `address` as an integer, zero-extended."""

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        return builder.zext(simd.load(builder, simd.pointer(builder, given[0]), I8), I64)

    return types.intp(types.intp), generate


@simd.emitter
def word(context: Any, address: Any) -> Any:
    """Return the 4 bytes at `address` as an integer, zero-extended."""

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        return builder.zext(simd.load(builder, simd.pointer(builder, given[0]), I32), I64)

    return types.intp(types.intp), generate


@simd.emitter
def put_octet(context: Any, address: Any, value: Any) -> Any:
    """Store an integer's 8 bytes at `address`, a multiple of 8."""

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        simd.store(builder, simd.pointer(builder, given[0]), given[1], 8)
        return I64(0)

    return types.intp(types.intp, types.intp), generate


@simd.emitter
def fill_bytes(context: Any, address: Any, count: Any, value: Any) -> Any:
    """Store the low byte of `value` at `count` addresses from `address` on."""

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        address, count, value = given
        cgutils.memset(builder, simd.pointer(builder, address), count, builder.trunc(value, I8))
        return I64(0)

    return types.intp(*[types.intp] * 3), generate
