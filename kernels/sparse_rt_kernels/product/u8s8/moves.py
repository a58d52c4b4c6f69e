"""SIMD data movement of the int8 2:4 family: bytes into panels, into channels-last images, and back to planes.

Each is a Numba intrinsic on addresses (intp) that returns an intp: Numba may drop a call that returns nothing.
"""

from typing import Any

from llvmlite import ir

from sparse_rt_kernels.jit.compiler import cgutils, types
from sparse_rt_kernels.jit.llvm import I8, I32, I64
from sparse_rt_kernels.product.u8s8.sizes import PANEL_STEP, STEP
from sparse_rt_kernels.vectors import simd
from sparse_rt_kernels.vectors.registers import LONGS

__all__ = [
    "byte",
    "fill_bytes",
    "interleave_planes",
    "octet",
    "octets_of_planes",
    "octets_of_rows",
    "put_octet",
    "transpose_bytes",
    "transpose_bytes_32",
    "word",
]

_SIXTEEN = simd.vector(I8, 16)


def _at(builder: Any, base: Any, offset: Any) -> Any:
    """Return the byte pointer at an address plus an offset, both IR integers."""
    return simd.pointer(builder, builder.add(base, offset))


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
        sources = [_at(builder, simd.load(builder, place, I64, 8), offset) for place in places]
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
        places = [_at(builder, source, builder.mul(stride, I64(plane))) for plane in range(STEP)]
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


@simd.emitter
def transpose_bytes(
    context: Any, source: Any, stride: Any, rows: Any, columns: Any, out: Any, out_stride: Any, flip: Any
) -> Any:
    """``out[j, i] = source[i, j] ^ flip`` for i < rows <= 16 and j < columns <= 16; strides in bytes.

    Nothing else is read or written.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        source, stride, rows, columns, out, out_stride, flip = given
        flips = simd.broadcast(builder, builder.trunc(flip, I8), 16)
        whole = builder.icmp_signed("==", builder.add(rows, columns), I64(32))
        slots = [cgutils.alloca_once(builder, _SIXTEEN) for _ in range(16)]
        with builder.if_else(whole) as (full, ragged):
            with full:
                for row, slot in enumerate(slots):
                    place = _at(builder, source, builder.mul(stride, I64(row)))
                    builder.store(simd.load(builder, place, _SIXTEEN), slot)
            with ragged:
                for row, slot in enumerate(slots):
                    builder.store(ir.Constant(_SIXTEEN, None), slot)
                    with builder.if_then(builder.icmp_signed("<", I64(row), rows)):
                        place = _at(builder, source, builder.mul(stride, I64(row)))
                        builder.store(simd.load_first(builder, place, _SIXTEEN, columns), slot)
        block = [simd.bitwise_xor(builder, builder.load(slot), flips) for slot in slots]
        transposed = simd.transpose(builder, block)
        with builder.if_else(whole) as (full, ragged):
            with full:
                for column, value in enumerate(transposed):
                    simd.store(builder, _at(builder, out, builder.mul(out_stride, I64(column))), value)
            with ragged:
                for column, value in enumerate(transposed):
                    with builder.if_then(builder.icmp_signed("<", I64(column), columns)):
                        simd.store_first(builder, _at(builder, out, builder.mul(out_stride, I64(column))), value, rows)
        return I64(0)

    return types.intp(*[types.intp] * 7), generate


@simd.emitter
def transpose_bytes_32(context: Any, source: Any, stride: Any, out: Any, out_stride: Any, flip: Any) -> Any:
    """``out[j, i] = source[i, j] ^ flip`` for i < 16 and j < 32: two blocks side by side in 32-byte registers."""

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        source, stride, out, out_stride, flip = given
        kind = simd.vector(I8, 32)
        flips = simd.broadcast(builder, builder.trunc(flip, I8), 32)
        block = []
        for row in range(16):
            place = _at(builder, source, builder.mul(stride, I64(row)))
            block.append(simd.bitwise_xor(builder, simd.load(builder, place, kind), flips))
        # simd.transpose within each half: the unpack instructions do not cross 16 bytes.
        low = [lane + part for base in (0, 16) for lane in range(base, base + 8) for part in (0, 32)]
        high = [lane + 8 for lane in low]
        for _ in range(4):
            pairs = list(zip(block[:8], block[8:], strict=True))
            block = [simd.shuffle(builder, a, b, half) for a, b in pairs for half in (low, high)]
        for half in (0, 16):
            for column, value in enumerate(block):
                place = _at(builder, out, builder.mul(out_stride, I64(column + half)))
                simd.store(builder, place, simd.shuffle(builder, value, value, range(half, half + 16)))
        return I64(0)

    return types.intp(*[types.intp] * 5), generate


@simd.emitter
def interleave_planes(context: Any, source: Any, stride: Any, rows: Any, columns: Any, out: Any, flip: Any) -> Any:
    """``out[j, i] = source[i, j] ^ flip`` for i < rows <= 4 and j < columns <= 16, `out` being (columns, 4) bytes.

    Bytes i >= rows become `flip`; `stride` is in bytes.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        source, stride, rows, columns, out, flip = given
        planes = []
        for row in range(4):
            count = builder.select(builder.icmp_signed("<", I64(row), rows), columns, I64(0))
            place = _at(builder, source, builder.mul(stride, I64(row)))
            planes.append(simd.load_first(builder, place, _SIXTEEN, count))
        pairs = [lane for pixel in range(16) for lane in (pixel, 16 + pixel)]
        low = simd.shuffle(builder, planes[0], planes[1], pairs)
        high = simd.shuffle(builder, planes[2], planes[3], pairs)
        lanes = [lane for pixel in range(16) for lane in (2 * pixel, 2 * pixel + 1, 32 + 2 * pixel, 33 + 2 * pixel)]
        mixed = simd.shuffle(builder, low, high, lanes)
        flips = simd.broadcast(builder, builder.trunc(flip, I8), 64)
        mixed = simd.bitwise_xor(builder, mixed, flips)
        words = simd.bitcast(builder, mixed, simd.vector(I32, 16))
        simd.store_first(builder, simd.pointer(builder, out), words, columns)
        return I64(0)

    return types.intp(*[types.intp] * 6), generate
