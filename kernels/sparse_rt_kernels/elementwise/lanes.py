"""Emitted by the vector loops: bytes become floats, floats become bytes, 64 elements at a time, or fewer."""

from collections.abc import Sequence
from typing import Any, Final

from llvmlite import ir

from sparse_rt_kernels import isa, simd

__all__ = ["FLOATS", "LANES", "broadcast_float", "load_bytes", "load_floats", "store_bytes", "store_floats", "to_bytes"]

LANES: Final = 16
FLOATS = simd.vector(simd.F32, LANES)
_WORDS = simd.vector(simd.I32, LANES)
_BYTES = simd.vector(simd.I8, LANES)
#: Added to a float of magnitude below 2**22 it rounds it half to even, as an integer in the low bits of the sum.
_ROUNDER = 1.5 * 2.0**23


def _count_from(builder: Any, rest: Any, first: int) -> Any:
    """Return how many of `rest` elements (an IR i64) are left from element `first` on."""
    return builder.sub(rest, ir.Constant(simd.I64, first))


def _place(builder: Any, address: Any, nbytes: int) -> Any:
    return simd.element(builder, simd.pointer(builder, address), nbytes)


def load_bytes(builder: Any, address: Any, first: int, is_signed: int, rest: Any = None) -> Any:
    """Return the 16 bytes from element `first` on as floats; of only `rest` elements at `address` where it is given."""
    place = _place(builder, address, first)
    if rest is None:
        loaded = simd.load(builder, place, _BYTES)
    else:
        loaded = simd.load_first(builder, place, _BYTES, _count_from(builder, rest, first))
    wide = builder.sext(loaded, _WORDS) if is_signed else builder.zext(loaded, _WORDS)
    return simd.to_float(builder, wide)


def load_floats(builder: Any, address: Any, first: int, rest: Any = None) -> Any:
    """Return 16 floats from element `first` on; of only `rest` elements at `address` where it is given."""
    place = _place(builder, address, 4 * first)
    if rest is None:
        return simd.load(builder, place, FLOATS, 4)
    return simd.load_first(builder, place, FLOATS, _count_from(builder, rest, first))


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


def _bytes_of(builder: Any, value: Any, lanes: int) -> Any:
    """Return the low byte of an i64 in every lane."""
    return simd.broadcast(builder, builder.trunc(value, simd.I8), lanes)


def to_bytes(builder: Any, values: Sequence[Any], fields: Sequence[Any]) -> Any:
    """Return ``clip(round_half_even(values) + zero_point, least, most) ^ flip`` of 4 x 16 floats as 64 bytes.

    `fields` are IR i64: see :func:`quantisation.byte_fields`. NaN becomes `least`. Values from 2**31 on are for the
    caller to cut down: int32 does not hold them.
    """
    zero_point, least, most, flip = fields
    if isa.fits("avx512", isa.cpu_features()):
        result = _saturated(builder, values, zero_point)
        result = simd.larger_byte(builder, result, _bytes_of(builder, least, 64))
        result = simd.smaller_byte(builder, result, _bytes_of(builder, most, 64))
    else:
        bounds = [builder.sitofp(builder.sub(bound, zero_point), simd.F32) for bound in (least, most)]
        low, high = (broadcast_float(builder, bound) for bound in bounds)
        result = _rounded(builder, values, low, high)
        result = simd.add(builder, result, _bytes_of(builder, zero_point, 64))
    return simd.bitwise_xor(builder, result, _bytes_of(builder, flip, 64))


def _saturated(builder: Any, values: Sequence[Any], zero_point: Any) -> Any:
    """Round by conversion and saturate while narrowing: 9 instructions for 64 bytes."""
    words = [simd.nearest_int(builder, value) for value in values]
    shift = simd.broadcast(builder, builder.trunc(zero_point, simd.I16), 32)
    halves = [simd.add_saturated(builder, simd.pack_int16(builder, words[i], words[i + 1]), shift) for i in (0, 2)]
    packed = simd.bitcast(builder, simd.pack_uint8(builder, halves[0], halves[1]), _WORDS)
    # Packing works within 16 bytes: 4 of each of the vectors lie there side by side.
    ordered = simd.shuffle(builder, packed, packed, [4 * lane + part for part in range(4) for lane in range(4)])
    return simd.bitcast(builder, ordered, simd.vector(simd.I8, 64))


def _rounded(builder: Any, values: Sequence[Any], low: Any, high: Any) -> Any:
    """Round by adding a number so large that the sum has no bits left for fractions, of any vector width."""
    rounder = simd.constant(simd.F32, [_ROUNDER] * LANES)
    narrow = []
    for value in values:
        inside = simd.smaller(builder, simd.larger(builder, value, low), high)
        word = simd.bitcast(builder, simd.fadd(builder, inside, rounder), _WORDS)
        narrow.append(simd.narrow_to_byte(builder, word))
    pairs = [simd.shuffle(builder, narrow[i], narrow[i + 1], range(32)) for i in (0, 2)]
    return simd.shuffle(builder, *pairs, range(64))
