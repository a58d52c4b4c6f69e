"""SIMD int8 depthwise convolution straight from narrow planes, for AVX-512 VNNI: byte permutations stand for padding.

Some output rows, up to 64 pixels, are a block. What a row of the kernel reads for them lies within one register of 64
bytes, or two; a permutation picks for each pixel the columns that its taps meet, or a byte of padding, the last one.
"""

from typing import Any, Final

from llvmlite import ir

from sparse_rt_kernels import simd
from sparse_rt_kernels.compiler import cgutils, types
from sparse_rt_kernels.depthwise.finish import Finish, dot

__all__ = ["convolve_permuted"]

_LANES: Final = 16
_WORDS = simd.vector(simd.I32, _LANES)
_BYTES = simd.vector(simd.I8, 64)
_MASK = simd.vector(ir.IntType(1), 64)


def _int(value: int) -> Any:
    return ir.Constant(simd.I64, value)


def _at(builder: Any, table: Any, number: Any, size: int) -> Any:
    if isinstance(number, int):
        number = _int(number)
    return simd.pointer(builder, builder.add(table, builder.mul(number, _int(size))))


@simd.emitter
def convolve_permuted(
    context: Any,
    rows: Any,
    groups: Any,
    registers: Any,
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

    Parameters
    ----------
    rows, groups, registers
        Literal ints: rows of the kernel, operands of 4 taps in each, and registers that a row reads.
    planes, source, source_plane, out, out_plane
        How many, and bytes from plane to plane.
    blocks, block_bytes
        How many blocks a plane has, and bytes from block to block of the output.
    places, masks
        (blocks, rows) int64 bytes from the plane to what a row reads, and (blocks, rows, registers) int64, a bit for
        each byte that is to be read; `pad` stands for the others.
    controls
        (groups, 4, 64) bytes: where vector t finds the 4 columns of pixel 4 j + t.
    stores
        (blocks,) int64, a bit for each pixel.
    weights
        (planes, rows, groups, 4) int8.
    offset, scale, bias
        (planes,) int32, float32, float32.
    kind
        INT32, FLOAT32 or BYTES.
    flip, pad
        A byte that is xor-ed to each byte of the source, and the padding, before that.
    low, high
        float32 clip bounds; for BYTES within what `zero_point` leaves of the output's range.
    """

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        planes, source, source_plane, out, out_plane, blocks, block_bytes, *given = given[3:]
        places, masks, controls, stores, weights, offset, scale, bias, kind, flip, pad, low, high, zero_point = given
        height, width, count = rows.literal_value, groups.literal_value, registers.literal_value
        padding, flips = (simd.broadcast(builder, builder.trunc(byte, simd.I8), 64) for byte in (pad, flip))
        steers = [simd.load(builder, _at(builder, controls, number, 64), _BYTES, 64) for number in range(4 * width)]

        def read(at: Any, row: Any) -> list[Any]:
            vectors = []
            for number in range(count):
                bits = simd.load(
                    builder,
                    _at(builder, masks, builder.add(builder.mul(row, _int(count)), _int(number)), 8),
                    simd.I64,
                    8,
                )
                place = simd.pointer(builder, builder.add(at, _int(64 * number)))
                value = simd.load_masked(builder, place, _BYTES, builder.bitcast(bits, _MASK), padding)
                vectors.append(simd.bitwise_xor(builder, value, flips))
            return vectors

        def permuted(vectors: list[Any], steer: Any) -> Any:
            if count == 1:
                value = simd.permute_bytes(builder, vectors[0], steer)
            else:
                value = simd.permute_two(builder, vectors[0], steer, vectors[1])
            return builder.bitcast(value, _WORDS)

        with cgutils.for_range(builder, planes) as plane:
            taps = height * width
            operands = [
                simd.broadcast(
                    builder,
                    simd.load(
                        builder,
                        _at(builder, weights, builder.add(builder.mul(plane.index, _int(taps)), _int(tap)), 4),
                        simd.I32,
                        4,
                    ),
                    _LANES,
                )
                for tap in range(taps)
            ]
            start = simd.broadcast(
                builder, simd.load(builder, _at(builder, offset, plane.index, 4), simd.I32, 4), _LANES
            )
            factors = [simd.load(builder, _at(builder, table, plane.index, 4), simd.F32, 4) for table in (scale, bias)]
            finish = Finish(builder, 1, [*factors, low, high, zero_point])
            begin = builder.add(source, builder.mul(plane.index, source_plane))
            end = builder.add(out, builder.mul(plane.index, out_plane))
            with cgutils.for_range(builder, blocks) as block:
                sums = [start] * 4
                for r in range(height):
                    row = builder.add(builder.mul(block.index, _int(height)), _int(r))
                    moved = simd.load(builder, _at(builder, places, row, 8), simd.I64, 8)
                    vectors = read(builder.add(begin, moved), row)
                    for g in range(width):
                        for t in range(4):
                            value = permuted(vectors, steers[4 * g + t])
                            sums[t] = dot(builder, sums[t], value, operands[r * width + g])
                bits = simd.load(builder, _at(builder, stores, block.index, 8), simd.I64, 8)
                place = simd.pointer(builder, builder.add(end, builder.mul(block.index, block_bytes)))
                finish.store(kind, sums, place, builder.bitcast(bits, _MASK))
        return _int(0)

    floats = [types.float32] * 2
    return types.intp(rows, groups, registers, *[types.intp] * 18, *floats, types.intp), generate
