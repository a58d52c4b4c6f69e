"""SIMD data movement into and out of NCHWc8: 8 channels of a pixel, one octet, become neighbours.

Each is a Numba intrinsic on addresses (intp) that returns an intp: Numba may drop a call that returns nothing.
"""

from typing import Any

from llvmlite import ir

from sparse_rt_kernels.jit.compiler import cgutils, types
from sparse_rt_kernels.jit.llvm import I8, I64
from sparse_rt_kernels.product.u8s8.sizes import STEP
from sparse_rt_kernels.vectors import simd
from sparse_rt_kernels.vectors.registers import BYTES, LONGS

__all__ = ["LINE_OCTETS", "copy_octets", "put_octets", "split_octets", "planes_of_pixels", "pixels_of_planes"]

#: Octets of one register, and of one cache line.
LINE_OCTETS = 8
_LINE = LINE_OCTETS * STEP
#: The unpack instructions: within each 16 bytes, the lower or upper halves of two registers, byte by byte.
_LOW = [lane + part for base in range(0, _LINE, 16) for lane in range(base, base + 8) for part in (0, _LINE)]
_HIGH = [lane + 8 for lane in _LOW]


def _transpose_quarters(builder: Any, four: list[Any]) -> list[Any]:
    """Return 4 registers of 4 quarters transposed: quarter j of register i becomes quarter i of register j."""
    halves = ([0, 1, 2, 3, 8, 9, 10, 11], [4, 5, 6, 7, 12, 13, 14, 15])
    alternate = ([0, 1, 4, 5, 8, 9, 12, 13], [2, 3, 6, 7, 10, 11, 14, 15])
    pairs = [[simd.shuffle(builder, a, b, half) for half in halves] for a, b in (four[:2], four[2:])]
    return [simd.shuffle(builder, pairs[0][half], pairs[1][half], lanes) for half in (0, 1) for lanes in alternate]


@simd.emitter
def pixels_of_planes(context: Any, source: Any, stride: Any, pixels: Any, out: Any, flip: Any) -> Any:
    """``out[p, i] = source[i, p] ^ flip`` for up to 64 pixels p and the 8 planes i.

    Parameters
    ----------
    source, stride
        First byte of the first plane, and bytes from plane to plane.
    pixels
        How many there are; beyond 64 they are left out. No other bytes are read.
    out
        (pixels rounded up to 8, 8) uint8: what lies beyond the pixels becomes ``flip``.
    flip
        8 bytes as an integer: 0, or 0x80 in each byte to shift int8 to uint8.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        source, stride, pixels, out, flip = given
        whole = builder.icmp_signed(">=", pixels, I64(_LINE))
        ones = builder.sub(builder.shl(I64(1), pixels), I64(1))
        mask = builder.bitcast(builder.select(whole, I64(-1), ones), simd.vector(ir.IntType(1), _LINE))
        flips = simd.bitcast(builder, simd.broadcast(builder, flip, LINE_OCTETS), BYTES)
        block = []
        for plane in range(STEP):
            place = simd.pointer(builder, builder.add(source, builder.mul(stride, I64(plane))))
            loaded = simd.load_masked(builder, place, BYTES, mask, ir.Constant(BYTES, None))
            block.append(simd.bitwise_xor(builder, loaded, flips))
        # Perfect shuffles within each 16 bytes bring the 8 planes of a pixel together.
        for _ in range(3):
            pairs = list(zip(block[:4], block[4:], strict=True))
            block = [simd.shuffle(builder, a, b, half) for a, b in pairs for half in (_LOW, _HIGH)]
        # Quarter q of register i holds pixels 16 q + 2 i and the next.
        octets = [simd.bitcast(builder, value, LONGS) for value in block]
        lower, upper = (_transpose_quarters(builder, octets[first : first + 4]) for first in (0, 4))
        for line in range(LINE_OCTETS):
            with builder.if_then(builder.icmp_signed(">", pixels, I64(line * LINE_OCTETS)), likely=True):
                place = simd.element(builder, simd.pointer(builder, out), line * _LINE)
                simd.store(builder, place, (upper if line % 2 else lower)[line // 2])
        return I64(0)

    return types.intp(*[types.intp] * 5), generate


@simd.emitter
def copy_octets(context: Any, source: Any, count: Any, out: Any) -> Any:
    """``out[i] = source[i]`` for octets i < count, rounded up to 8."""

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        source, count, out = (given[0], given[1], given[2])
        with cgutils.for_range_slice(builder, I64(0), count, I64(LINE_OCTETS), I64, inc=True) as (octet, _):
            offset = builder.mul(octet, I64(STEP))
            value = simd.load(builder, simd.pointer(builder, builder.add(source, offset)), LONGS)
            simd.store(builder, simd.pointer(builder, builder.add(out, offset)), value)
        return I64(0)

    return types.intp(*[types.intp] * 3), generate


@simd.emitter
def put_octets(context: Any, source: Any, count: Any, out: Any) -> Any:
    """``out[i] = source[i]`` for octets i < count; nothing beyond them is touched."""

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        source, count, out = given
        with cgutils.for_range_slice(builder, I64(0), count, I64(LINE_OCTETS), I64, inc=True) as (octet, _):
            offset, rest = builder.mul(octet, I64(STEP)), builder.sub(count, octet)
            value = simd.load_first(builder, simd.pointer(builder, builder.add(source, offset)), LONGS, rest)
            simd.store_first(builder, simd.pointer(builder, builder.add(out, offset)), value, rest)
        return I64(0)

    return types.intp(*[types.intp] * 3), generate


@simd.emitter
def planes_of_pixels(context: Any, source: Any, pixels: Any, out: Any, stride: Any, flip: Any) -> Any:
    """``out[i, p] = source[p, i] ^ flip`` for up to 64 pixels p and 8 planes i: :func:`pixels_of_planes` reversed.

    No other bytes are read or written.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        source, pixels, out, stride, flip = given
        flips = simd.bitcast(builder, simd.broadcast(builder, flip, LINE_OCTETS), BYTES)
        # 8 pixels of 8 channels become 8 channels of 8 pixels.
        order = simd.constant(I8, [8 * pixel + channel for channel in range(STEP) for pixel in range(LINE_OCTETS)])
        rows = []
        for line in range(LINE_OCTETS):
            place = simd.element(builder, simd.pointer(builder, source), line * _LINE)
            octets = simd.load_first(builder, place, LONGS, builder.sub(pixels, I64(line * LINE_OCTETS)))
            transposed = simd.permute_bytes(builder, simd.bitcast(builder, octets, BYTES), order)
            rows.append(simd.bitcast(builder, simd.bitwise_xor(builder, transposed, flips), LONGS))
        for plane, value in enumerate(simd.transpose(builder, rows)):
            place = simd.pointer(builder, builder.add(out, builder.mul(stride, I64(plane))))
            simd.store_first(builder, place, simd.bitcast(builder, value, BYTES), pixels)
        return I64(0)

    return types.intp(*[types.intp] * 5), generate


@simd.emitter
def split_octets(context: Any, source: Any, count: Any, even: Any, odd: Any) -> Any:
    """``even[i] = source[2 i]``, ``odd[i] = source[2 i + 1]``: 8 of each for every 16 of `count` octets, rounded up."""

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        source, count, *outs = given
        with cgutils.for_range_slice(builder, I64(0), count, I64(2 * LINE_OCTETS), I64, inc=True) as (octet, _):
            place = simd.pointer(builder, builder.add(source, builder.mul(octet, I64(STEP))))
            first, second = (simd.load(builder, simd.element(builder, place, at), LONGS) for at in (0, _LINE))
            # The even ones last: both may have the same place, which then holds the even ones.
            for parity in (1, 0):
                value = simd.shuffle(builder, first, second, range(parity, 2 * LINE_OCTETS, 2))
                offset = builder.mul(octet, I64(STEP // 2))
                simd.store(builder, simd.pointer(builder, builder.add(outs[parity], offset)), value)
        return I64(0)

    return types.intp(*[types.intp] * 4), generate
