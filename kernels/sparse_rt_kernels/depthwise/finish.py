"""From int32 sums of 64 output pixels to stored outputs, emitted; and the dot product of 4 bytes."""

from typing import Any, Final

import numpy as np
from llvmlite import ir

from sparse_rt_kernels import isa, simd

__all__ = ["BYTES", "FLOAT32", "INT32", "KINDS", "Finish", "dot"]

#: What the output holds: see :class:`sparse_rt_kernels.epilogue.IntegerEpilogue`.
INT32: Final = 0
FLOAT32: Final = 1
BYTES: Final = 2

#: By dtype character.
KINDS: Final = {np.dtype(np.int32).char: INT32, "f": FLOAT32, "B": BYTES, "b": BYTES}

_LANES: Final = 16
_WORDS = simd.vector(simd.I32, _LANES)
#: Added to a float of magnitude below 2**22 it rounds it half to even, as an integer in the low bits of the sum.
_ROUNDER = 1.5 * 2.0**23


def _int(value: int) -> Any:
    return ir.Constant(simd.I64, value)


def dot(builder: Any, acc: Any, values: Any, weights: Any) -> Any:
    """Add 4 products of unsigned bytes and signed bytes to each lane."""
    if isa.fits("avx512vnni", isa.cpu_features()):
        return simd.dot_u8s8(builder, acc, values, weights)
    for byte in range(4):
        shift = simd.constant(simd.I32, [8 * byte] * _LANES)
        up = simd.constant(simd.I32, [24 - 8 * byte] * _LANES)
        value = simd.bitwise_and(builder, simd.shift_right(builder, values, shift), simd.constant(simd.I32, [255] * 16))
        weight = builder.ashr(builder.shl(weights, up), simd.constant(simd.I32, [24] * _LANES))
        acc = simd.add(builder, acc, simd.multiply(builder, value, weight))
    return acc


def _interleaved(builder: Any, vectors: list[Any]) -> list[Any]:
    """Return 2**i vectors, lane j of vector t being item ``count * j + t``, as items in order."""
    low = [lane for first in range(_LANES // 2) for lane in (first, _LANES + first)]
    high = [lane + _LANES // 2 for lane in low]
    if len(vectors) == 1:
        return vectors
    even, odd = _interleaved(builder, vectors[::2]), _interleaved(builder, vectors[1::2])
    pairs = zip(even, odd, strict=True)
    return [simd.shuffle(builder, a, b, half) for a, b in pairs for half in (low, high)]


class Finish:
    """The operands of one channel, in every lane, and what they make of a block of sums."""

    def __init__(self, builder: Any, step: int, given: Any) -> None:
        scale, bias, low, high, zero_point = given
        self._builder = builder
        self._step = step
        self._scale, self._bias, self._low, self._high = (
            simd.broadcast(builder, value, _LANES) for value in (scale, bias, low, high)
        )
        self._zero_point = builder.trunc(zero_point, simd.I8)

    def store(self, kind: Any, sums: list[Any], place: Any, mask: Any = None) -> None:
        """Store 64 outputs, or those of `mask` (<64 x i1>)."""
        builder = self._builder
        with builder.if_else(builder.icmp_signed("==", kind, _int(BYTES)), likely=True) as (narrow, wide):
            with narrow:
                self._store_bytes(sums, place, mask)
            with wide, builder.if_else(builder.icmp_signed("==", kind, _int(INT32))) as (words, floats):
                with words:
                    self._store_words(sums, place, mask)
                with floats:
                    self._store_words([self._clipped(one) for one in sums], place, mask)

    def _scaled(self, sums: Any) -> Any:
        # The product is rounded before the sum, as separate operators do: no fused multiply-add.
        value = simd.fmultiply(self._builder, simd.to_float(self._builder, sums), self._scale)
        return simd.fadd(self._builder, value, self._bias)

    def _clipped(self, sums: Any) -> Any:
        # larger and smaller give their second operand if either is NaN.
        above = simd.larger(self._builder, self._low, self._scaled(sums))
        return simd.smaller(self._builder, self._high, above)

    def _in_order(self, vectors: list[Any]) -> list[Any]:
        """Return the vectors of a block with their lanes in the order of pixels."""
        ways = 4 // self._step
        groups = [vectors[first : first + ways] for first in range(0, 4, ways)]
        return [one for group in groups for one in _interleaved(self._builder, group)]

    def _store_words(self, vectors: list[Any], place: Any, mask: Any) -> None:
        for number, value in enumerate(self._in_order(vectors)):
            self._put(simd.element(self._builder, place, 64 * number), value, mask, _LANES * number)

    def _rounded(self, sums: Any) -> Any:
        """Return words whose low byte lacks but the zero point."""
        builder = self._builder
        value = simd.smaller(builder, simd.larger(builder, self._scaled(sums), self._low), self._high)
        rounded = simd.fadd(builder, value, simd.constant(simd.F32, [_ROUNDER] * _LANES))
        return simd.bitcast(builder, rounded, _WORDS)

    def _store_bytes(self, sums: list[Any], place: Any, mask: Any) -> None:
        builder = self._builder
        ways = 4 // self._step
        words = [self._rounded(one) for one in sums]
        for first in range(0, 4, ways):
            # Lane j holds `ways` neighbouring pixels, one in each vector: a byte of one word.
            joined = None
            for way, word in reversed(list(enumerate(words[first : first + ways]))):
                byte = simd.bitwise_and(builder, word, simd.constant(simd.I32, [255] * _LANES))
                moved = builder.shl(byte, simd.constant(simd.I32, [8 * way] * _LANES))
                joined = moved if joined is None else builder.or_(joined, moved)
            packed = builder.trunc(joined, simd.vector(ir.IntType(8 * ways), _LANES)) if ways < 4 else joined
            value = simd.bitcast(builder, packed, simd.vector(simd.I8, _LANES * ways))
            value = simd.add(builder, value, simd.broadcast(builder, self._zero_point, _LANES * ways))
            self._put(simd.element(builder, place, _LANES * first), value, mask, _LANES * first)

    def _put(self, place: Any, value: Any, mask: Any, first: int) -> None:
        """Store the vector of pixels from `first` on."""
        if mask is None:
            simd.store(self._builder, place, value)
            return
        lanes = range(first, first + value.type.count)
        simd.store_masked(self._builder, place, value, simd.shuffle(self._builder, mask, mask, lanes))
