"""SIMD data movement into packed panels: 8 bytes of each of 24 rows, from rows or from planes.

Each is a Numba intrinsic on addresses (intp) that returns an intp: Numba may drop a call that returns nothing.
"""

from typing import Any

from sparse_rt_kernels.jit.compiler import cgutils, types
from sparse_rt_kernels.jit.llvm import I8, I64
from sparse_rt_kernels.product.u8s8.sizes import PANEL_STEP, STEP
from sparse_rt_kernels.vectors import simd
from sparse_rt_kernels.vectors.registers import LONGS

__all__ = ["octets_of_planes", "octets_of_rows"]


def _transpose_quarters(builder: Any, registers: list[Any]) -> list[Any]:
    """Transpose the quarters of 4 registers: the i-th result is the i-th 16 bytes of each."""
    for distance in (1, 2):
        # Quarters whose numbers differ in one bit change places across registers whose numbers do.
        kept = [quarter & ~distance for quarter in range(4)]
        low = [8 * bool(q & distance) + 2 * k + word for q, k in enumerate(kept) for word in (0, 1)]
        high = [lane + 2 * distance for lane in low]
        paired = list(registers)
        for first in (register for register in range(4) if not register & distance):
            a, b = registers[first], registers[first + distance]
            paired[first], paired[first + distance] = (simd.shuffle(builder, a, b, half) for half in (low, high))
        registers = paired
    return registers


@simd.emitter
def octets_of_rows(context: Any, rows: Any, offset: Any, panel: Any, flip: Any) -> Any:
    """``panel[s, r, :] = row_r[offset + 8 s : offset + 8 s + 8] ^ flip`` for 8 rows r and 8 steps s: 64 bytes a row.

    Parameters
    ----------
    rows
        (8,) int64: the addresses of the rows.
    panel
        (8, 24, 8) uint8, first of the 8 rows; 64-byte aligned.
    flip
        8 bytes as an integer: 0, or 0x80 in each byte to shift int8 to uint8.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        rows, offset, panel, flip = given
        flips = simd.broadcast(builder, flip, 8)
        places = [simd.element(builder, simd.pointer(builder, rows), row * 8) for row in range(8)]
        sources = [simd.pointer(builder, simd.load(builder, place, I64, 8), offset) for place in places]
        lines = [simd.bitwise_xor(builder, simd.load(builder, source, LONGS), flips) for source in sources]
        out = simd.pointer(builder, panel)
        # Neighbouring rows side by side in every 16 bytes, which are then transposed as 4 x 4.
        for odd in (0, 1):
            interleave = [lane + odd + part for lane in range(0, 8, 2) for part in (0, 8)]
            pairs = [simd.shuffle(builder, lines[row], lines[row + 1], interleave) for row in range(0, 8, 2)]
            for step, value in zip(range(odd, 8, 2), _transpose_quarters(builder, pairs), strict=True):
                simd.store(builder, simd.element(builder, out, step * PANEL_STEP), value, 64)
        return I64(0)

    return types.intp(*[types.intp] * 4), generate


@simd.emitter
def octets_of_planes(context: Any, source: Any, stride: Any, planes: Any, pixels: Any, panel: Any, flip: Any) -> Any:
    """``panel[p, i] = source[i, p] ^ flip`` for 24 pixels p and 8 planes i; what is missing becomes ``flip``.

    Parameters
    ----------
    source, stride
        First byte of the first plane, and bytes from plane to plane.
    planes
        How many planes there are, at least 1; those beyond 8 are not read.
    pixels
        How many bytes of each plane may be read. Up to 32 are read, whatever they hold.
    panel
        (24, 8) uint8, 64-byte aligned: one step of a panel.
    flip
        See :func:`octets_of_rows`.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        source, stride, planes, pixels, panel, flip = given
        kind = simd.vector(I8, 32)
        slots = [cgutils.alloca_once(builder, kind) for _ in range(STEP)]
        places = [simd.pointer(builder, source, builder.mul(stride, I64(plane))) for plane in range(STEP)]
        whole = builder.and_(builder.icmp_signed(">=", planes, I64(STEP)), builder.icmp_signed(">=", pixels, I64(32)))
        with builder.if_else(whole, likely=True) as (full, ragged):
            with full:
                for place, slot in zip(places, slots, strict=True):
                    builder.store(simd.load(builder, place, kind), slot)
            with ragged:
                for plane, (place, slot) in enumerate(zip(places, slots, strict=True)):
                    count = builder.select(builder.icmp_signed("<", I64(plane), planes), pixels, I64(0))
                    builder.store(simd.load_first(builder, place, kind, count), slot)
        flips = simd.broadcast(builder, builder.trunc(flip, I8), 32)
        block = [simd.bitwise_xor(builder, builder.load(slot), flips) for slot in slots]
        # Perfect shuffles within each half, as the unpack instructions do: three of them bring 8 planes together.
        low = [lane + part for base in (0, 16) for lane in range(base, base + 8) for part in (0, 32)]
        high = [lane + 8 for lane in low]
        for _ in range(3):
            pairs = list(zip(block[:4], block[4:], strict=True))
            block = [simd.shuffle(builder, a, b, half) for a, b in pairs for half in (low, high)]
        # Register i holds pixels 2 i, 2 i + 1 and, in its upper half, 16 more.
        out = simd.pointer(builder, panel)
        for pair, value in enumerate(block):
            simd.store(builder, simd.element(builder, out, pair * 16), simd.shuffle(builder, value, value, range(16)))
        for pair, value in enumerate(block[:4]):
            upper = simd.shuffle(builder, value, value, range(16, 32))
            simd.store(builder, simd.element(builder, out, 128 + pair * 16), upper)
        return I64(0)

    return types.intp(*[types.intp] * 6), generate
