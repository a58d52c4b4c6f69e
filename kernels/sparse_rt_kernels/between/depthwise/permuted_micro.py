"""SIMD int8 depthwise convolution straight from narrow planes, for AVX-512 VNNI: byte permutations stand for padding.

Some output rows, up to 64 pixels, are a block. What a row of the kernel reads for them lies within one register of 64
bytes, or two; a permutation picks for each pixel the columns that its taps meet, or a byte of padding, the last one.
"""

from typing import Any

from llvmlite import ir

from sparse_rt_kernels.between.depthwise.finish import Finish, dot
from sparse_rt_kernels.jit.compiler import cgutils, types
from sparse_rt_kernels.jit.llvm import F32, I8, I32, I64
from sparse_rt_kernels.vectors import simd
from sparse_rt_kernels.vectors.registers import BYTES, LANES, WORDS

__all__ = ["convolve_permuted"]

_MASK = simd.vector(ir.IntType(1), 64)


def _at(builder: Any, table: Any, number: Any, size: int) -> Any:
    if isinstance(number, int):
        number = I64(number)
    return simd.pointer(builder, builder.add(table, builder.mul(number, I64(size))))


@simd.emitter
def convolve_permuted(
    context: Any,
    rows: Any,
    groups: Any,
    registers: Any,
    vectors: Any,
    planes: Any,
    source: Any,
    source_plane: Any,
    out: Any,
    out_plane: Any,
    blocks: Any,
    block_bytes: Any,
    places: Any,
    masks: Any,
    controls: Any,
    stores: Any,
    weights: Any,
    offset: Any,
    scale: Any,
    bias: Any,
    kind: Any,
    flip: Any,
    pad: Any,
    low: Any,
    high: Any,
    zero_point: Any,
) -> Any:
    """``out[c] = epilogue(sum over rows r, groups g of weights[c, r, g] . permuted(source[c], r, g))``, block by block.

    All planes' first block, then their second: what differs from block to block, masks above all, stays in registers.

    Parameters
    ----------
    rows, groups, registers, vectors
        Literal ints: rows of the kernel, operands of 4 taps in each, registers that a row reads, and vectors of 16
        pixels of a block.
    planes, source, source_plane, out, out_plane
        How many, and bytes from plane to plane.
    blocks, block_bytes
        How many blocks a plane has, and bytes from block to block of the output.
    places, masks
        (blocks, rows) int64 bytes from the plane to what a row reads, and (blocks, rows, registers) int64, a bit for
        each byte that is to be read; `pad` stands for the others.
    controls
        (groups, vectors, 64) bytes: where vector t finds the 4 columns of pixel ``vectors * j + t``.
    stores
        (blocks,) int64, a bit for each pixel.
    weights
        (planes, rows, groups, 4) int8.
    offset, scale, bias
        (planes,) int32, float32, float32.
    kind
        Of :mod:`finish`.
    flip, pad
        A byte that is xor-ed to each byte of the source, and the padding, before that.
    low, high
        float32 clip bounds; for bytes within what `zero_point` leaves of the output's range.
    """

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        planes, source, source_plane, out, out_plane, blocks, block_bytes, *given = given[4:]
        places, masks, controls, stores, weights, offset, scale, bias, kind, flip, pad, low, high, zero_point = given
        height, width, count, ways = (each.literal_value for each in (rows, groups, registers, vectors))
        flips, padding = (simd.broadcast(builder, builder.trunc(byte, I8), 64) for byte in (flip, pad))
        padding = simd.bitwise_xor(builder, padding, flips)
        steers = [simd.load(builder, _at(builder, controls, number, 64), BYTES, 64) for number in range(ways * width)]

        def read(at: Any, bits: list[Any]) -> list[Any]:
            result = []
            for number, mask in enumerate(bits):
                place = simd.pointer(builder, builder.add(at, I64(64 * number)))
                value = simd.load_masked(builder, place, BYTES, mask, ir.Constant(BYTES, None))
                # Adding 128 flips a byte's sign bit, and a sum can be masked.
                result.append(builder.select(mask, simd.add(builder, value, flips), padding))
            return result

        def permuted(values: list[Any], steer: Any) -> Any:
            if count == 1:
                value = simd.permute_bytes(builder, values[0], steer)
            else:
                value = simd.permute_two(builder, values[0], steer, values[1])
            return builder.bitcast(value, WORDS)

        def mask_at(table: Any, number: Any) -> Any:
            return builder.bitcast(simd.load(builder, _at(builder, table, number, 8), I64, 8), _MASK)

        with cgutils.for_range(builder, blocks) as block:
            first = builder.mul(block.index, I64(height))
            moved, bits = [], []
            for r in range(height):
                row = builder.add(first, I64(r))
                place = simd.load(builder, _at(builder, places, row, 8), I64, 8)
                moved.append(builder.add(source, place))
                inside = builder.mul(row, I64(count))
                bits.append([mask_at(masks, builder.add(inside, I64(number))) for number in range(count)])
            store = mask_at(stores, block.index)
            begin = builder.add(out, builder.mul(block.index, block_bytes))
            with cgutils.for_range(builder, planes) as plane:
                start = simd.broadcast(builder, simd.load(builder, _at(builder, offset, plane.index, 4), I32, 4), LANES)
                sums = [start] * ways
                at = builder.mul(plane.index, source_plane)
                word = _at(builder, weights, builder.mul(plane.index, I64(height * width)), 4)
                for r in range(height):
                    values = read(builder.add(moved[r], at), bits[r])
                    for g in range(width):
                        tap = simd.load(builder, simd.element(builder, word, 4 * (r * width + g)), I32, 4)
                        operand = simd.broadcast(builder, tap, LANES)
                        for t in range(ways):
                            sums[t] = dot(builder, sums[t], permuted(values, steers[ways * g + t]), operand)
                factors = [simd.load(builder, _at(builder, table, plane.index, 4), F32, 4) for table in (scale, bias)]
                finish = Finish(builder, 4 // ways, [*factors, low, high, zero_point])
                place = simd.pointer(builder, builder.add(begin, builder.mul(plane.index, out_plane)))
                finish.store(kind, sums, place, store)
        return I64(0)

    floats = [types.float32] * 2
    return types.intp(rows, groups, registers, vectors, *[types.intp] * 18, *floats, types.intp), generate
