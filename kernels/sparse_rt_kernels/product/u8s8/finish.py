"""The epilogue of int8 products, emitted: int32 sums become outputs, row-major or as planes of channels.

Each is a Numba intrinsic on addresses (intp) that returns an intp: Numba may drop a call that returns nothing.
"""

from typing import Any, NamedTuple

from sparse_rt_kernels.jit.compiler import cgutils, types
from sparse_rt_kernels.jit.llvm import F32, I8, I32, I64
from sparse_rt_kernels.product.u8s8.operands import BYTE, FLOAT32, INT32, Operands
from sparse_rt_kernels.product.u8s8.sizes import CHANNELS
from sparse_rt_kernels.vectors import simd
from sparse_rt_kernels.vectors.records import fields_of
from sparse_rt_kernels.vectors.registers import BYTES, FLOATS, REGISTER, ROUNDER, WORDS

__all__ = ["Block", "finish_planes", "finish_rows"]


class Block(NamedTuple):
    """Some rows of sums of up to 16 channels, and where their outputs go.

    Attributes
    ----------
    sums
        (rows, 16) int32, 64-byte aligned.
    rows, channels
        How many are stored.
    out, stride
        First element, and bytes from row to row, or from channel to channel. May hold anything on entry.
    """

    sums: Any
    rows: Any
    channels: Any
    out: Any
    stride: Any


class _Epilogue:
    """The operands of 16 channels, loaded once, and what they make of one row of sums."""

    def __init__(self, builder: Any, kind: int, channels: Any, given: Operands) -> None:
        self.kind = kind
        correction = simd.load_first(builder, simd.pointer(builder, given.row_sums), WORDS, channels)
        shifts = simd.broadcast(builder, builder.trunc(given.shift, I32), CHANNELS)
        held = simd.load_first(builder, simd.pointer(builder, given.offset), WORDS, channels)
        self._offset = simd.subtract(builder, held, simd.multiply(builder, correction, shifts))
        if kind != INT32:
            self._scale = simd.load_first(builder, simd.pointer(builder, given.scale), FLOATS, channels)
            self._bias = simd.load_first(builder, simd.pointer(builder, given.bias), FLOATS, channels)
            self._low = simd.broadcast(builder, given.low, CHANNELS)
            self._high = simd.broadcast(builder, given.high, CHANNELS)
        if kind == BYTE:
            self._zero_point = builder.trunc(given.zero_point, I8)
            self._rounder = simd.constant(F32, [ROUNDER] * CHANNELS)

    def scaled(self, builder: Any, sums: Any) -> Any:
        """Return a row of sums as the int32, the float32, or the int32 whose low byte lacks but the zero point."""
        total = simd.add(builder, sums, self._offset)
        if self.kind == INT32:
            return total
        # The product is rounded before the sum, as separate operators do: no fused multiply-add.
        value = simd.fmultiply(builder, simd.to_float(builder, total), self._scale)
        value = simd.fadd(builder, value, self._bias)
        if self.kind == FLOAT32:
            # larger and smaller give their second operand if either is NaN.
            return simd.smaller(builder, self._high, simd.larger(builder, self._low, value))
        value = simd.smaller(builder, simd.larger(builder, value, self._low), self._high)
        return simd.bitcast(builder, simd.fadd(builder, value, self._rounder), WORDS)

    def row(self, builder: Any, sums: Any) -> Any:
        """Return a row of sums as outputs."""
        value = self.scaled(builder, sums)
        return value if self.kind != BYTE else self._shifted(builder, simd.narrow_to_byte(builder, value))

    def four_rows(self, builder: Any, sums: list[Any], by_channel: bool) -> Any:
        """Return 4 rows of sums as 64 bytes, 16 channels of each row or, `by_channel`, 4 rows of each channel."""
        rows = [simd.bitcast(builder, self.scaled(builder, one), BYTES) for one in sums]
        low_bytes = range(0, 64, 4)
        if by_channel:
            pair = [lane for byte in low_bytes for lane in (byte, 64 + byte)]
            quad = [lane for two in range(0, 32, 2) for lane in (two, two + 1, 32 + two, 33 + two)]
        else:
            pair = [*low_bytes, *(64 + byte for byte in low_bytes)]
            quad = list(range(64))
        upper, lower = (simd.shuffle(builder, rows[i], rows[i + 1], pair) for i in (0, 2))
        return self._shifted(builder, simd.shuffle(builder, upper, lower, quad))

    def _shifted(self, builder: Any, values: Any) -> Any:
        return simd.add(builder, values, simd.broadcast(builder, self._zero_point, values.type.count))


def _load_sums(builder: Any, sums: Any, row: Any) -> Any:
    place = simd.pointer(builder, builder.add(sums, builder.mul(row, I64(REGISTER))))
    return simd.load(builder, place, WORDS, REGISTER)


def _finish_fours(builder: Any, epilogue: _Epilogue, block: Block) -> Any:
    """Store as many whole groups of 4 rows of 16 bytes as there are; return how many rows that makes."""
    groups = builder.udiv(block.rows, I64(4))
    with cgutils.for_range(builder, groups) as loop:
        first = builder.mul(loop.index, I64(4))
        places = [builder.add(first, I64(row)) for row in range(4)]
        four = epilogue.four_rows(builder, [_load_sums(builder, block.sums, row) for row in places], False)
        for row, place in enumerate(places):
            value = simd.shuffle(builder, four, four, range(16 * row, 16 * row + 16))
            simd.store(builder, simd.pointer(builder, builder.add(block.out, builder.mul(place, block.stride))), value)
    return builder.mul(groups, I64(4))


def _planes(builder: Any, epilogue: _Epilogue, block: list[Any]) -> list[Any]:
    """Return 16 rows of sums as the outputs of 16 channels, 16 rows each."""
    if epilogue.kind != BYTE:
        return list(simd.transpose(builder, [epilogue.row(builder, sums) for sums in block]))
    fours = [epilogue.four_rows(builder, block[row : row + 4], True) for row in range(0, 16, 4)]
    words = [simd.bitcast(builder, four, WORDS) for four in fours]
    # Within each 128 bits there are 4 channels of 4 rows: a 4 x 4 transpose of words brings 16 rows together.
    low = [lane + part for lane in range(0, 16, 4) for part in (0, 16, 1, 17)]
    high = [lane + 2 for lane in low]
    pairs = [simd.shuffle(builder, words[i], words[i + 1], half) for i in (0, 2) for half in (low, high)]
    low = [lane + part for lane in range(0, 16, 4) for part in (0, 1, 16, 17)]
    high = [lane + 2 for lane in low]
    transposed = [simd.shuffle(builder, pairs[i], pairs[i + 2], half) for i in (0, 1) for half in (low, high)]
    # transposed[j] holds channels j, 4 + j, 8 + j, 12 + j.
    registers = [simd.bitcast(builder, value, BYTES) for value in transposed]
    return [
        simd.shuffle(builder, registers[channel % 4], registers[channel % 4], range(first, first + 16))
        for channel in range(CHANNELS)
        for first in (16 * (channel // 4),)
    ]


@simd.emitter
def finish_rows(context: Any, kind: Any, block: Any, operands: Any) -> Any:
    """``out[r, c] = epilogue(sums[r, c] - shift * row_sums[c] + offset[c])`` for the channels c of a :class:`Block`.

    `kind` is a literal int: INT32, FLOAT32 or BYTE; `operands` are :class:`.operands.Operands` of these channels.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        of = fields_of(builder, Block, given[1])
        epilogue = _Epilogue(builder, kind.literal_value, of.channels, fields_of(builder, Operands, given[2]))

        def each_row(first: Any, put: Any) -> None:
            with cgutils.for_range_slice(builder, first, of.rows, I64(1), I64, inc=True) as (row, _):
                value = _load_sums(builder, of.sums, row)
                put(
                    simd.pointer(builder, builder.add(of.out, builder.mul(row, of.stride))),
                    epilogue.row(builder, value),
                )

        with builder.if_else(builder.icmp_signed("==", of.channels, I64(CHANNELS))) as (full, ragged):
            with full:
                done = _finish_fours(builder, epilogue, of) if epilogue.kind == BYTE else I64(0)
                each_row(done, lambda place, value: simd.store(builder, place, value))
            with ragged:
                each_row(I64(0), lambda place, value: simd.store_first(builder, place, value, of.channels))
        return I64(0)

    return types.intp(kind, block, operands), generate


@simd.emitter
def finish_planes(context: Any, kind: Any, block: Any, operands: Any) -> Any:
    """``out[c, r] = epilogue(sums[r, c] - shift * row_sums[c] + offset[c])`` for the channels c of a :class:`Block`.

    Parameters are those of :func:`finish_rows`, but there are 1 to 16 rows r, and 16 rows of sums are read, whatever
    they hold.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        of = fields_of(builder, Block, given[1])
        epilogue = _Epilogue(builder, kind.literal_value, of.channels, fields_of(builder, Operands, given[2]))
        source = simd.pointer(builder, of.sums)
        rows = [simd.load(builder, simd.element(builder, source, row * REGISTER), WORDS, REGISTER) for row in range(16)]
        planes = _planes(builder, epilogue, rows)
        places = [simd.pointer(builder, builder.add(of.out, builder.mul(of.stride, I64(c)))) for c in range(CHANNELS)]
        whole = builder.icmp_signed("==", builder.add(of.channels, of.rows), I64(CHANNELS + 16))
        with builder.if_else(whole) as (full, ragged):
            with full:
                for place, value in zip(places, planes, strict=True):
                    simd.store(builder, place, value)
            with ragged:
                for channel, (place, value) in enumerate(zip(places, planes, strict=True)):
                    with builder.if_then(builder.icmp_signed("<", I64(channel), of.channels)):
                        simd.store_first(builder, place, value, of.rows)
        return I64(0)

    return types.intp(kind, block, operands), generate
