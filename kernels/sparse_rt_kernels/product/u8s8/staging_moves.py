"""SIMD data movement from planes into channels-last images: transposes of bytes.

Each is a Numba intrinsic on addresses (intp) that returns an intp: Numba may drop a call that returns nothing.
"""

from typing import Any

from llvmlite import ir

from sparse_rt_kernels.jit.compiler import cgutils, types
from sparse_rt_kernels.jit.llvm import I8, I32, I64
from sparse_rt_kernels.vectors import simd

__all__ = ["interleave_planes", "transpose_bytes", "transpose_bytes_32"]

_SIXTEEN = simd.vector(I8, 16)


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
                    place = simd.pointer(builder, source, builder.mul(stride, I64(row)))
                    builder.store(simd.load(builder, place, _SIXTEEN), slot)
            with ragged:
                for row, slot in enumerate(slots):
                    builder.store(ir.Constant(_SIXTEEN, None), slot)
                    with builder.if_then(builder.icmp_signed("<", I64(row), rows)):
                        place = simd.pointer(builder, source, builder.mul(stride, I64(row)))
                        builder.store(simd.load_first(builder, place, _SIXTEEN, columns), slot)
        block = [simd.bitwise_xor(builder, builder.load(slot), flips) for slot in slots]
        transposed = simd.transpose(builder, block)
        with builder.if_else(whole) as (full, ragged):
            with full:
                for column, value in enumerate(transposed):
                    simd.store(builder, simd.pointer(builder, out, builder.mul(out_stride, I64(column))), value)
            with ragged:
                for column, value in enumerate(transposed):
                    with builder.if_then(builder.icmp_signed("<", I64(column), columns)):
                        simd.store_first(
                            builder, simd.pointer(builder, out, builder.mul(out_stride, I64(column))), value, rows
                        )
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
            place = simd.pointer(builder, source, builder.mul(stride, I64(row)))
            block.append(simd.bitwise_xor(builder, simd.load(builder, place, kind), flips))
        # simd.transpose within each half: the unpack instructions do not cross 16 bytes.
        low = [lane + part for base in (0, 16) for lane in range(base, base + 8) for part in (0, 32)]
        high = [lane + 8 for lane in low]
        for _ in range(4):
            pairs = list(zip(block[:8], block[8:], strict=True))
            block = [simd.shuffle(builder, a, b, half) for a, b in pairs for half in (low, high)]
        for half in (0, 16):
            for column, value in enumerate(block):
                place = simd.pointer(builder, out, builder.mul(out_stride, I64(column + half)))
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
            place = simd.pointer(builder, source, builder.mul(stride, I64(row)))
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
