"""From int32 sums of 64 output pixels to stored outputs, emitted; and the dot product of 4 bytes."""

from typing import Any, Final

import numpy as np
from llvmlite import ir

from sparse_rt_kernels.between.depthwise.operands import Bytes
from sparse_rt_kernels.cpu import isa
from sparse_rt_kernels.jit.llvm import F32, I8, I16, I32, I64
from sparse_rt_kernels.product.epilogue import IntegerEpilogue
from sparse_rt_kernels.vectors import simd
from sparse_rt_kernels.vectors.registers import LANES, ROUNDER, WORDS

__all__ = ["BYTES", "FLOAT32", "INT32", "PRODUCTS", "Finish", "dot", "kind_of"]

#: What the output holds: see :class:`.epilogue.IntegerEpilogue`. PRODUCTS are bytes for which the
#: product of sum and scale is all there is to round, and is never beyond int32: no bias, |scale| < 1.
INT32: Final = 0
FLOAT32: Final = 1
BYTES: Final = 2
PRODUCTS: Final = 3


def kind_of(dtype: np.dtype[Any], epilogue: IntegerEpilogue) -> int:
    """Return what outputs of `dtype` hold."""
    if dtype.itemsize > 1:
        return FLOAT32 if dtype.char == "f" else INT32
    return BYTES if epilogue.bias.any() or not (np.abs(epilogue.scale) < 1).all() else PRODUCTS


def dot(builder: Any, level: int, acc: Any, values: Any, weights: Any) -> Any:
    """Add 4 products of unsigned bytes and signed bytes to each lane; `level` is that of :mod:`isa`."""
    if isa.allows(level, "avx512vnni"):
        return simd.dot_u8s8(builder, acc, values, weights)
    for byte in range(4):
        shift = simd.constant(I32, [8 * byte] * LANES)
        up = simd.constant(I32, [24 - 8 * byte] * LANES)
        value = simd.bitwise_and(builder, simd.shift_right(builder, values, shift), simd.constant(I32, [255] * 16))
        weight = builder.ashr(builder.shl(weights, up), simd.constant(I32, [24] * LANES))
        acc = simd.add(builder, acc, simd.multiply(builder, value, weight))
    return acc


def _interleaved(builder: Any, vectors: list[Any]) -> list[Any]:
    """Return 2**i vectors, lane j of vector t being item ``count * j + t``, as items in order."""
    low = [lane for first in range(LANES // 2) for lane in (first, LANES + first)]
    high = [lane + LANES // 2 for lane in low]
    if len(vectors) == 1:
        return vectors
    even, odd = _interleaved(builder, vectors[::2]), _interleaved(builder, vectors[1::2])
    pairs = zip(even, odd, strict=True)
    return [simd.shuffle(builder, a, b, half) for a, b in pairs for half in (low, high)]


def _packed_order(ways: int, vectors: int) -> list[int]:
    """Return where pixels lie after packing; each of `ways` neighbouring ones comes from a vector of its own.

    Packing leaves in every 16 bytes 4 lanes of each of the vectors.
    """
    group = LANES * ways
    places = []
    for pixel in range(vectors * LANES):
        vector, lane = pixel // group * ways + pixel % ways, pixel % group // ways
        places.append(lane // 4 * LANES + vector * 4 + lane % 4)
    return places


class Finish:
    """The operands of one channel, in every lane, and what they make of a block of sums."""

    def __init__(self, builder: Any, level: int, step: int, given: Bytes) -> None:
        self._builder = builder
        self._step = step
        self._kind = given.kind
        self._scale, self._bias, self._low, self._high = (
            simd.broadcast(builder, value, LANES) for value in (given.scale, given.bias, given.low, given.high)
        )
        self._zero_point = builder.trunc(given.zero_point, I8)
        #: Whether there are 64-byte conversions and packs that saturate.
        self._saturates = isa.allows(level, "avx512")
        if self._saturates:
            self._bound_bytes()

    def _bound_bytes(self) -> None:
        """Prepare to clip bytes, counted from the least that there may be, of which saturation cuts off what is below.

        Bounds come in as clip(t) = smaller(larger(t, low), high): high holds where they cross.
        """
        builder = self._builder
        least, most = (
            builder.trunc(builder.extract_element(simd.nearest_int(builder, bound), I32(0)), I16)
            for bound in (simd.smaller(builder, self._low, self._high), self._high)
        )
        zero = I16(0)
        self._minus_least = simd.broadcast(builder, builder.sub(zero, least), 32)
        self._span = simd.broadcast(builder, builder.trunc(builder.sub(most, least), I8), 64)
        self._least_byte = simd.broadcast(builder, builder.add(builder.trunc(least, I8), self._zero_point), 64)

    def store(self, sums: list[Any], place: Any, mask: Any = None) -> None:
        """Store the outputs of 4 or 2 vectors of sums, or those of `mask` (<64 x i1>)."""
        builder, kind = self._builder, self._kind
        with builder.if_else(builder.icmp_signed(">=", kind, I64(BYTES)), likely=True) as (narrow, wide):
            with narrow:
                self._store_narrow(sums, place, mask)
            with wide, builder.if_else(builder.icmp_signed("==", kind, I64(INT32))) as (words, floats):
                with words:
                    self._store_words(sums, place, mask)
                with floats:
                    self._store_words([self._clipped(one) for one in sums], place, mask)

    def _store_narrow(self, sums: list[Any], place: Any, mask: Any) -> None:
        builder = self._builder
        if not self._saturates:
            self._store_bytes(sums, place, mask)
            return
        with builder.if_else(builder.icmp_signed("==", self._kind, I64(PRODUCTS)), likely=True) as (products, others):
            with products:
                rows = [self._product(one) for one in sums]
                self._put(place, self._saturated(rows), mask, 0)
            with others:
                # What int32 does not hold must be bounded before it is rounded; it makes the least int32 of NaN.
                rows = [simd.smaller(builder, self._high, self._scaled(one)) for one in sums]
                self._put(place, self._saturated(rows), mask, 0)

    def _saturated(self, rows: list[Any]) -> Any:
        """Return a byte for each pixel, in their order: round(clip(t)) is clip(round(t))."""
        builder = self._builder
        words = [simd.nearest_int(builder, row) for row in rows]
        halves = [simd.pack_int16(builder, words[first], words[first + 1]) for first in range(0, len(words), 2)]
        halves = [simd.add_saturated(builder, half, self._minus_least) for half in halves]
        value = simd.smaller_byte(builder, simd.pack_uint8(builder, halves[0], halves[-1]), self._span)
        value = simd.add(builder, value, self._least_byte)
        return simd.shuffle(builder, value, value, _packed_order(4 // self._step, len(rows)))

    def _product(self, sums: Any) -> Any:
        return simd.fmultiply(self._builder, simd.to_float(self._builder, sums), self._scale)

    def _scaled(self, sums: Any) -> Any:
        # The product is rounded before the sum, as separate operators do: no fused multiply-add.
        return simd.fadd(self._builder, self._product(sums), self._bias)

    def _clipped(self, sums: Any) -> Any:
        # larger and smaller give their second operand if either is NaN.
        above = simd.larger(self._builder, self._low, self._scaled(sums))
        return simd.smaller(self._builder, self._high, above)

    def _in_order(self, vectors: list[Any]) -> list[Any]:
        """Return the vectors of a block with their lanes in the order of pixels."""
        ways = 4 // self._step
        groups = [vectors[first : first + ways] for first in range(0, len(vectors), ways)]
        return [one for group in groups for one in _interleaved(self._builder, group)]

    def _store_words(self, vectors: list[Any], place: Any, mask: Any) -> None:
        for number, value in enumerate(self._in_order(vectors)):
            self._put(simd.element(self._builder, place, 64 * number), value, mask, LANES * number)

    def _rounded(self, sums: Any) -> Any:
        """Return words whose low byte lacks but the zero point."""
        builder = self._builder
        value = simd.smaller(builder, simd.larger(builder, self._scaled(sums), self._low), self._high)
        rounded = simd.fadd(builder, value, simd.constant(F32, [ROUNDER] * LANES))
        return simd.bitcast(builder, rounded, WORDS)

    def _store_bytes(self, sums: list[Any], place: Any, mask: Any) -> None:
        builder = self._builder
        ways = 4 // self._step
        words = [self._rounded(one) for one in sums]
        for first in range(0, len(sums), ways):
            # Lane j holds `ways` neighbouring pixels, one in each vector: a byte of one word.
            joined = None
            for way, word in reversed(list(enumerate(words[first : first + ways]))):
                byte = simd.bitwise_and(builder, word, simd.constant(I32, [255] * LANES))
                moved = builder.shl(byte, simd.constant(I32, [8 * way] * LANES))
                joined = moved if joined is None else builder.or_(joined, moved)
            packed = builder.trunc(joined, simd.vector(ir.IntType(8 * ways), LANES)) if ways < 4 else joined
            value = simd.bitcast(builder, packed, simd.vector(I8, LANES * ways))
            value = simd.add(builder, value, simd.broadcast(builder, self._zero_point, LANES * ways))
            self._put(simd.element(builder, place, LANES * first), value, mask, LANES * first)

    def _put(self, place: Any, value: Any, mask: Any, first: int) -> None:
        """Store the vector of pixels from `first` on."""
        if mask is None:
            simd.store(self._builder, place, value)
            return
        lanes = range(first, first + value.type.count)
        simd.store_masked(self._builder, place, value, simd.shuffle(self._builder, mask, mask, lanes))
