"""What vector loops emit to get 16 floats from memory and back."""

from typing import Any

from sparse_rt_kernels.cpu import isa
from sparse_rt_kernels.jit.llvm import F32, I8, I64
from sparse_rt_kernels.vectors import simd
from sparse_rt_kernels.vectors.registers import FLOATS, LANES, WORDS

__all__ = [
    "broadcast_float",
    "constant",
    "has_fma",
    "kept",
    "load_bytes",
    "load_floats",
    "load_words",
    "multiply_add",
    "store_bytes",
    "store_floats",
]

_BYTES = simd.vector(I8, LANES)


def _count_from(builder: Any, rest: Any, first: int) -> Any:
    """Return how many of `rest` elements (an IR i64) are left from element `first` on."""
    return builder.sub(rest, I64(first))


def _mask(builder: Any, rest: Any, first: int) -> Any:
    left = simd.broadcast(builder, _count_from(builder, rest, first), LANES)
    return builder.icmp_signed("<", simd.constant(I64, range(LANES)), left)


def _place(builder: Any, address: Any, nbytes: int) -> Any:
    return simd.element(builder, simd.pointer(builder, address), nbytes)


def _sixteen_bytes(builder: Any, address: Any, first: int, rest: Any) -> Any:
    place = _place(builder, address, first)
    if rest is None:
        return simd.load(builder, place, _BYTES)
    return simd.load_first(builder, place, _BYTES, _count_from(builder, rest, first))


def load_bytes(
    builder: Any, address: Any, first: int, is_signed: int, rest: Any = None, is_shifted: bool = False
) -> Any:
    """Return the 16 bytes from element `first` on as floats; of only `rest` elements at `address` where it is given.

    Signed ones that are `is_shifted` lie with 128 added.
    """
    loaded = _sixteen_bytes(builder, address, first, rest)
    if is_signed and is_shifted:
        loaded = simd.bitwise_xor(builder, loaded, simd.constant(I8, [-128] * LANES))
    wide = builder.sext(loaded, WORDS) if is_signed else builder.zext(loaded, WORDS)
    return simd.to_float(builder, wide)


def load_words(builder: Any, address: Any, first: int, rest: Any = None) -> Any:
    """Return the 16 unsigned bytes from element `first` on as int32, as :func:`load_bytes` does."""
    return builder.zext(_sixteen_bytes(builder, address, first, rest), WORDS)


def load_floats(builder: Any, address: Any, first: int, rest: Any = None, beyond: Any = None) -> Any:
    """Return 16 floats from element `first` on; of only `rest` elements at `address` where it is given.

    Lanes beyond those are taken from `beyond`, or 0.
    """
    place = _place(builder, address, 4 * first)
    if rest is None:
        return simd.load(builder, place, FLOATS, 4)
    if beyond is None:
        return simd.load_first(builder, place, FLOATS, _count_from(builder, rest, first))
    return simd.load_masked(builder, place, FLOATS, _mask(builder, rest, first), beyond)


def kept(builder: Any, value: Any, first: int, rest: Any = None) -> Any:
    """Return 16 lanes that stand for the elements from `first` on, with 0 for those that `rest` leaves out."""
    if rest is None:
        return value
    return builder.select(_mask(builder, rest, first), value, constant(0.0))


def store_floats(builder: Any, address: Any, first: int, value: Any, rest: Any = None) -> None:
    """Store 16 floats from element `first` on; no more than `rest` elements at `address` where it is given."""
    place = _place(builder, address, 4 * first)
    if rest is None:
        simd.store(builder, place, value, 4)
    else:
        simd.store_first(builder, place, value, _count_from(builder, rest, first))


def store_bytes(builder: Any, address: Any, value: Any, rest: Any = None) -> None:
    """Store 64 bytes, or the first `rest` of them."""
    place = simd.pointer(builder, address)
    if rest is None:
        simd.store(builder, place, value)
    else:
        simd.store_first(builder, place, value, rest)


def broadcast_float(builder: Any, scalar: Any) -> Any:
    """Return 16 lanes of a float32."""
    return simd.broadcast(builder, scalar, LANES)


def constant(value: float) -> Any:
    """Return 16 lanes of a float32 that is known now."""
    return simd.constant(F32, [value] * LANES)


def has_fma() -> bool:
    """Return whether the CPU multiplies and adds in one instruction; elsewhere it is a slow call."""
    return not isa.cpu_features().isdisjoint({"fma", "avx512f", "neon"})


def multiply_add(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """Return ``a * b + c``, rounded once where the CPU can, for where it does not matter."""
    if has_fma():
        return simd.fma(builder, a, b, c)
    return simd.fadd(builder, simd.fmultiply(builder, a, b), c)
