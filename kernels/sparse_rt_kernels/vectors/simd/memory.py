"""Loads and stores. `memory` in a meaning is a uint8 array that begins at the pointer."""

from typing import Any

import numpy as np
from llvmlite import ir

from sparse_rt_kernels.jit.compiler import cgutils
from sparse_rt_kernels.jit.llvm import I32, I64
from sparse_rt_kernels.vectors.simd.operation import Array, operation
from sparse_rt_kernels.vectors.simd.shuffles import broadcast
from sparse_rt_kernels.vectors.simd.values import constant, vector

__all__ = ["gather", "load", "load_first", "load_masked", "prefetch", "store", "store_first", "store_masked"]


def _load_meaning(memory: Array, dtype: Any, lanes: int) -> Array:
    return np.array(memory[: lanes * np.dtype(dtype).itemsize].view(dtype))


def _store_meaning(memory: Array, value: Array) -> Array:
    out = memory.copy()
    out[: value.nbytes] = value.view(np.uint8)
    return out


def _load_first_meaning(memory: Array, dtype: Any, lanes: int, count: int) -> Array:
    out = np.zeros(lanes, dtype)
    kept = min(max(count, 0), lanes)
    out[:kept] = memory[: kept * out.itemsize].view(dtype)
    return out


@operation(_load_meaning)
def load(builder: Any, base: Any, kind: Any, align: int = 1) -> Any:
    """Load a value of type `kind` from a byte pointer; `align` is what is known of the address."""
    return builder.load(builder.bitcast(base, kind.as_pointer()), align=align, typ=kind)


@operation(_store_meaning)
def store(builder: Any, base: Any, value: Any, align: int = 1) -> None:
    """Store `value` at a byte pointer."""
    builder.store(value, builder.bitcast(base, value.type.as_pointer()), align=align)


def _first_lanes(builder: Any, lanes: int, count: Any) -> Any:
    """Return the mask of lanes below `count`, an IR i64."""
    return builder.icmp_signed("<", constant(I64, range(lanes)), broadcast(builder, count, lanes))


def _masked_name(access: str, kind: Any) -> str:
    item = "f" if isinstance(kind.element, ir.FloatType) else "i"
    bits = 32 if item == "f" else kind.element.width
    return f"llvm.masked.{access}.v{kind.count}{item}{bits}.p0"


def _load(builder: Any, base: Any, kind: Any, mask: Any, other: Any) -> Any:
    passed = kind.as_pointer()
    signature = ir.FunctionType(kind, [passed, I32, mask.type, kind])
    function = cgutils.get_or_insert_function(builder.module, signature, _masked_name("load", kind))
    return builder.call(function, [builder.bitcast(base, passed), I32(1), mask, other])


def _store(builder: Any, base: Any, value: Any, mask: Any) -> None:
    passed = value.type.as_pointer()
    signature = ir.FunctionType(ir.VoidType(), [value.type, passed, I32, mask.type])
    function = cgutils.get_or_insert_function(builder.module, signature, _masked_name("store", value.type))
    builder.call(function, [value, builder.bitcast(base, passed), I32(1), mask])


@operation(_load_first_meaning)
def load_first(builder: Any, base: Any, kind: Any, count: Any) -> Any:
    """Load the first `count` lanes (an IR i64) and zeros for the others, whose memory is not touched."""
    return _load(builder, base, kind, _first_lanes(builder, kind.count, count), ir.Constant(kind, None))


@operation(lambda memory, value, count: _store_meaning(memory, value[: max(count, 0)]))
def store_first(builder: Any, base: Any, value: Any, count: Any) -> None:
    """Store the first `count` lanes (an IR i64); memory beyond them is not touched."""
    _store(builder, base, value, _first_lanes(builder, value.type.count, count))


@operation(lambda memory, dtype, mask, other: np.where(mask, _load_meaning(memory, dtype, mask.size), other))
def load_masked(builder: Any, base: Any, kind: Any, mask: Any, other: Any) -> Any:
    """Load the lanes of `mask` (<n x i1>) and take the others from `other`; their memory is not touched."""
    return _load(builder, base, kind, mask, other)


def _store_masked_meaning(memory: Array, value: Array, mask: Array) -> Array:
    return _store_meaning(memory, np.where(mask, value, _load_meaning(memory, value.dtype, value.size)))


@operation(_store_masked_meaning)
def store_masked(builder: Any, base: Any, value: Any, mask: Any) -> None:
    """Store the lanes of `mask` (<n x i1>); the memory of the others is not touched."""
    _store(builder, base, value, mask)


@operation(lambda memory: memory)
def prefetch(builder: Any, base: Any, level: int = 2, write: bool = False) -> None:
    """Call the cache line at a byte pointer into L2, or L1 if `level` is 1; any address may be named.

    If it is called to `write`, no other core keeps it.
    """
    signature = ir.FunctionType(ir.VoidType(), [base.type, I32, I32, I32])
    function = cgutils.get_or_insert_function(builder.module, signature, "llvm.prefetch.p0")
    builder.call(function, [base, I32(int(write)), I32(4 - level), I32(1)])


def _gather_meaning(memory: Array, offsets: Array, dtype: Any) -> Array:
    held = memory.view(dtype)
    return np.array([held[offset] if offset >= 0 else 0 for offset in offsets], dtype)


@operation(_gather_meaning)
def gather(builder: Any, base: Any, offsets: Any, kind: Any) -> Any:
    """Load item ``offsets[i]`` (int32, in items) of the array at `base` into lane i; 0 where the offset is negative."""
    lanes, passed = kind.count, kind.element.as_pointer()
    start = broadcast(builder, builder.ptrtoint(base, I64), lanes)
    bytes_ = builder.mul(builder.sext(offsets, vector(I64, lanes)), constant(I64, [4] * lanes))
    addresses = builder.inttoptr(builder.add(start, bytes_), vector(passed, lanes))
    mask = builder.icmp_signed(">=", offsets, ir.Constant(offsets.type, None))
    signature = ir.FunctionType(kind, [addresses.type, I32, mask.type, kind])
    name = f"llvm.masked.gather.v{lanes}f32.v{lanes}p0"
    function = cgutils.get_or_insert_function(builder.module, signature, name)
    return builder.call(function, [addresses, I32(4), mask, ir.Constant(kind, None)])
