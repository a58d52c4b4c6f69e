"""SIMD data movement into a staged image.

Each is a Numba intrinsic on addresses (intp) that returns an intp: Numba may drop a call that returns nothing.
"""

from typing import Any

from llvmlite import ir

from sparse_rt_kernels.jit.compiler import cgutils, types
from sparse_rt_kernels.jit.llvm import I8, I16, I32, I64
from sparse_rt_kernels.vectors import simd
from sparse_rt_kernels.vectors.registers import BYTES, REGISTER, WORDS

__all__ = ["copy_words", "fill_words", "transpose_words"]

#: The unpack instructions: within each 16 bytes, the lower or upper halves of two registers, item by item.
_LOW_BYTES = [lane + part for base in range(0, 64, 16) for lane in range(base, base + 8) for part in (0, 64)]
_LOW_PAIRS = [lane + part for base in range(0, 32, 8) for lane in range(base, base + 4) for part in (0, 32)]
#: Quarters of two registers: the first two of each, the last two of each, then every second one.
_HALVES = [[*range(8), *range(16, 24)], [*range(8, 16), *range(24, 32)]]
_ALTERNATE = [[first + lane for first in range(at, 32, 8) for lane in range(4)] for at in (0, 4)]


def _unpack(builder: Any, a: Any, b: Any, low: list[int], upper: int) -> list[Any]:
    return [simd.shuffle(builder, a, b, [lane + half for lane in low]) for half in (0, upper)]


@simd.emitter
def transpose_words(context: Any, source: Any, stride: Any, planes: Any, pixels: Any, out: Any, flip: Any) -> Any:
    """``out[p, i] = source[i, p] ^ flip`` for up to 64 pixels p and up to 4 planes i.

    Parameters
    ----------
    source, stride
        First byte of the first plane, and bytes from plane to plane.
    planes, pixels
        How many there are; beyond 4 and 64 they are left out. No other bytes are read.
    out
        (pixels rounded up to 16, 4) uint8: what lies beyond pixels and planes becomes ``flip``.
    flip
        The byte, as an integer: 0, or 0x80 to shift int8 to uint8.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        source, stride, planes, pixels, out, flip = given
        whole = builder.icmp_signed(">=", pixels, I64(REGISTER))
        ones = builder.sub(builder.shl(I64(1), pixels), I64(1))
        present = builder.select(whole, I64(-1), ones)
        flips = simd.broadcast(builder, builder.trunc(flip, I8), 64)
        block = []
        for plane in range(4):
            lanes = builder.select(builder.icmp_signed("<", I64(plane), planes), present, I64(0))
            mask = builder.bitcast(lanes, simd.vector(ir.IntType(1), 64))
            place = simd.pointer(builder, builder.add(source, builder.mul(stride, I64(plane))))
            loaded = simd.load_masked(builder, place, BYTES, mask, ir.Constant(BYTES, None))
            block.append(simd.bitwise_xor(builder, loaded, flips))
        pairs = [
            [simd.bitcast(builder, each, simd.vector(I16, 32)) for each in _unpack(builder, a, b, _LOW_BYTES, 8)]
            for a, b in (block[:2], block[2:])
        ]
        fours = [each for a, b in zip(*pairs, strict=True) for each in _unpack(builder, a, b, _LOW_PAIRS, 4)]
        # Quarter q of register i holds pixels 16 q + 4 i to 16 q + 4 i + 3.
        words = [simd.bitcast(builder, four, WORDS) for four in fours]
        halves = [[simd.shuffle(builder, a, b, half) for half in _HALVES] for a, b in (words[:2], words[2:])]
        for line in range(4):
            with builder.if_then(builder.icmp_signed(">", pixels, I64(line * 16)), likely=True):
                a, b = (pair[line // 2] for pair in halves)
                value = simd.shuffle(builder, a, b, _ALTERNATE[line % 2])
                simd.store(builder, simd.element(builder, simd.pointer(builder, out), line * REGISTER), value)
        return I64(0)

    return types.intp(*[types.intp] * 6), generate


@simd.emitter
def copy_words(context: Any, source: Any, count: Any, out: Any) -> Any:
    """``out[i] = source[i]`` for i < count; no other words are read or written."""

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        source, count, out = given
        with cgutils.for_range_slice(builder, I64(0), count, I64(16), I64, inc=True) as (word, _):
            offset, left = builder.mul(word, I64(4)), builder.sub(count, word)
            value = simd.load_first(builder, simd.pointer(builder, builder.add(source, offset)), WORDS, left)
            simd.store_first(builder, simd.pointer(builder, builder.add(out, offset)), value, left)
        return I64(0)

    return types.intp(*[types.intp] * 3), generate


@simd.emitter
def fill_words(context: Any, out: Any, count: Any, word: Any) -> Any:
    """``out[i] = word`` for i < count."""

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        out, count, word = given
        value = simd.broadcast(builder, builder.trunc(word, I32), 16)
        with cgutils.for_range_slice(builder, I64(0), count, I64(16), I64, inc=True) as (first, _):
            place = simd.pointer(builder, builder.add(out, builder.mul(first, I64(4))))
            simd.store_first(builder, place, value, builder.sub(count, first))
        return I64(0)

    return types.intp(*[types.intp] * 3), generate
