"""Bytes of one head, brought to the quantisation of the product and laid out for its tile."""

from typing import Any, Final

from llvmlite import ir

from sparse_rt_kernels.cpu import isa
from sparse_rt_kernels.jit.compiler import cgutils, types
from sparse_rt_kernels.jit.llvm import F32, I8, I32, I64
from sparse_rt_kernels.vectors import simd
from sparse_rt_kernels.vectors.lanes import broadcast_float, load_floats
from sparse_rt_kernels.vectors.loops import each_choice, each_unit, zero
from sparse_rt_kernels.vectors.narrowing import Divisor, to_bytes
from sparse_rt_kernels.vectors.quantisation import ByteFields
from sparse_rt_kernels.vectors.quantised_rows import FIRSTS, row_reader
from sparse_rt_kernels.vectors.records import fields_of
from sparse_rt_kernels.vectors.registers import BYTES, LANES, REGISTER, WORDS

__all__ = ["TIER", "column_starts", "interleave_rows", "quantise_row", "row_total", "weigh_row"]

_ONES: Final = simd.constant(I32, [0x01010101] * LANES)


#: Of the kernel, for which there is no other; and its level.
TIER: Final = "avx512vnni"
_LEVEL: Final = isa.number_of(TIER)


def _kept_bytes(builder: Any, value: Any, rest: Any) -> Any:
    """Return 64 bytes with 0 for those from `rest` on."""
    if rest is None:
        return value
    short = builder.trunc(rest, I8)
    mask = builder.icmp_signed("<", simd.constant(I8, range(REGISTER)), simd.broadcast(builder, short, REGISTER))
    return builder.select(mask, value, ir.Constant(BYTES, None))


@simd.emitter
def quantise_row(context: Any, x: Any, block: Any, y: Any, count: Any, scale: Any, fields: Any) -> Any:
    """``y = bytes(x / scale)`` of `count` elements, with zeros up to a whole register of bytes.

    `block` is the address of a :func:`quantised_rows.rows_block` for bytes, 0 for float32; `fields` are
    :class:`quantisation.ByteFields`.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        x, block, y, count, scale, held = given
        divisor, after = Divisor(builder, scale), fields_of(builder, ByteFields, held)

        def row(is_quantised: int) -> None:
            read = row_reader(builder, x, block, is_quantised)

            def unit(at: Any, rest: Any) -> None:
                values = [divisor.quotient(builder, value) for value in read(at, rest)]
                result = _kept_bytes(builder, to_bytes(builder, _LEVEL, values, after), rest)
                simd.store(builder, simd.pointer(builder, builder.add(y, at)), result)

            each_unit(builder, count, unit)

        each_choice(builder, [block], row)
        return zero()

    return types.intp(*[types.intp] * 4, types.float32, fields), generate


@simd.emitter
def weigh_row(context: Any, x: Any, y: Any, count: Any, zero_point: Any, factor: Any) -> Any:
    """``y = uint8(round(x * factor) + zero_point)`` of `count` float32, with zeros up to a whole register of bytes."""

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        x, y, count, zero_point, factor = given
        factors, most = broadcast_float(builder, factor), simd.constant(F32, [1024.0] * LANES)
        fields = ByteFields(zero_point, I64(0), I64(255), I64(0))

        def unit(at: Any, rest: Any) -> None:
            source = builder.add(x, builder.mul(at, I64(4)))
            values = [simd.fmultiply(builder, load_floats(builder, source, first, rest), factors) for first in FIRSTS]
            values = [simd.smaller(builder, most, value) for value in values]
            result = _kept_bytes(builder, to_bytes(builder, _LEVEL, values, fields), rest)
            simd.store(builder, simd.pointer(builder, builder.add(y, at)), result)

        each_unit(builder, count, unit)
        return zero()

    return types.intp(*[types.intp] * 4, types.float32), generate


@simd.emitter
def row_total(context: Any, x: Any, registers: Any, partial_sums: Any) -> Any:
    """Store 16 int32 at `partial_sums` that add up to the sum of `registers` registers of uint8."""

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        x, registers, partial_sums = given
        slot = cgutils.alloca_once_value(builder, ir.Constant(WORDS, None))
        with cgutils.for_range(builder, registers) as loop:
            place = simd.pointer(builder, builder.add(x, builder.mul(loop.index, I64(REGISTER))))
            value = simd.load(builder, place, WORDS)
            builder.store(simd.dot_u8s8(builder, builder.load(slot), value, _ONES), slot)
        simd.store(builder, simd.pointer(builder, partial_sums), builder.load(slot), 4)
        return zero()

    return types.intp(*[types.intp] * 3), generate


@simd.emitter
def column_starts(context: Any, x: Any, stride: Any, steps: Any, y: Any, factor: Any, start: Any) -> Any:
    """``y[c] = start - factor * sum_s sum_j x[s, c, j]`` of 16 columns c; x is int8, `steps` times 64 bytes."""

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        x, stride, steps, y, factor, start = given
        slot = cgutils.alloca_once_value(builder, ir.Constant(WORDS, None))
        with cgutils.for_range(builder, steps) as loop:
            place = simd.pointer(builder, builder.add(x, builder.mul(loop.index, stride)))
            value = simd.load(builder, place, WORDS, REGISTER)
            builder.store(simd.dot_u8s8(builder, builder.load(slot), _ONES, value), slot)
        factors, starts = (simd.broadcast(builder, builder.trunc(one, I32), LANES) for one in (factor, start))
        product = simd.multiply(builder, builder.load(slot), factors)
        simd.store(builder, simd.pointer(builder, y), simd.subtract(builder, starts, product), 4)
        return zero()

    return types.intp(*[types.intp] * 6), generate


@simd.emitter
def interleave_rows(context: Any, x: Any, stride: Any, registers: Any, y: Any) -> Any:
    """``y[c, j] = x[j, c]`` of 4 rows of 16 bytes for each of `registers` registers of y."""

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        x, stride, registers, y = given
        sixteen = simd.vector(I8, LANES)
        with cgutils.for_range(builder, registers) as loop:
            at = builder.add(x, builder.mul(loop.index, I64(LANES)))
            words = None
            for row in range(4):
                place = simd.pointer(builder, builder.add(at, builder.mul(stride, I64(row))))
                word = simd.widen_byte(builder, simd.load(builder, place, sixteen))
                if row:
                    word = builder.shl(word, simd.constant(I32, [8 * row] * LANES))
                words = word if words is None else builder.or_(words, word)
            to = builder.add(y, builder.mul(loop.index, I64(REGISTER)))
            simd.store(builder, simd.pointer(builder, to), words, REGISTER)
        return zero()

    return types.intp(*[types.intp] * 4), generate
