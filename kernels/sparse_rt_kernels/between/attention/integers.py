"""Attention whose two products are of bytes: query, key, scores, weights, value and context are quantised."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sparse_rt_kernels.between.attention.integer_panels import (
    TIER,
    column_starts,
    interleave_rows,
    quantise_row,
    row_total,
    weigh_row,
)
from sparse_rt_kernels.between.attention.integer_tile import Products, Rounding, context_bytes, scores
from sparse_rt_kernels.between.attention.panels import transpose_rows
from sparse_rt_kernels.between.attention.problem import GROUP, PLACES, Attention, Blocks
from sparse_rt_kernels.between.attention.rows import exponentials, scaled_largest
from sparse_rt_kernels.cpu import isa
from sparse_rt_kernels.jit.compilation import kernel_jit
from sparse_rt_kernels.jit.compiler import carray, types
from sparse_rt_kernels.jit.llvm import I32
from sparse_rt_kernels.threads.launch import Launch, Phase
from sparse_rt_kernels.threads.parts import part_bounds
from sparse_rt_kernels.threads.workspace import as_pointer
from sparse_rt_kernels.vectors import simd
from sparse_rt_kernels.vectors.across import combine_across, fold_largest, fold_sums
from sparse_rt_kernels.vectors.loops import zero
from sparse_rt_kernels.vectors.quantisation import BYTE_FIELDS, ByteFields, ByteTensor, byte_fields
from sparse_rt_kernels.vectors.quantised_rows import QuantisedRows, rows_block
from sparse_rt_kernels.vectors.registers import LANES, REGISTER, WORDS

__all__ = ["ByteOperand", "QuantisedAttention", "are_bytes_available", "prepare_quantised_attention"]

_OPERANDS: Final = ("query", "key", "value")
_RECORD = np.dtype(
    [
        *((name, "i8") for name in ("batch", "heads", "queries", "keys", "size", "value_size")),
        *((name, "i8") for name in ("rows", "blocks", "parts", "has_mask")),
        *((name, "i8") for name in ("values_at", "staged_at", "bytes_at", "scores_at", "weights_at", "state_at")),
        *((f"{name}_{field}", "i8") for name in _OPERANDS for field in ("block", "block_bytes")),
        *((f"{name}_{field}", kind) for name in _OPERANDS for field, kind in (("scale", "f8"), *BYTE_FIELDS)),
        *((name, "f8") for name in ("scale", "scores_factor", "scores_low", "scores_high", "scores_scale")),
        *((name, "f8") for name in ("weights_scale", "context_factor", "context_low", "context_high")),
        *((name, "i8") for name in ("weights_zero", "context_zero")),
        *PLACES,
    ]
)
#: Partial results of a group of rows, its results, its largest scores, and what is added to its sums.
_STATE_BYTES: Final = GROUP * 64 + 3 * 64
#: Of one product of bytes, and of one score's exponential and its share of rounding, on one core.
_NANOSECONDS, _SCORE_NANOSECONDS = 1 / 200, 0.25


@dataclass(frozen=True, eq=False, slots=True)
class ByteOperand:
    """What an operand's array holds, and how it is quantised for the product.

    Attributes
    ----------
    quantised
        Of the product.
    source
        What the bytes of the array stand for, without a bias; None for float32.
    bias
        (batch, heads, size) float32, added to what they stand for; None for none.
    """

    quantised: ByteTensor
    source: QuantisedRows | None
    bias: NDArray[np.float32] | None = None


@dataclass(frozen=True, eq=False, slots=True)
class QuantisedAttention:
    """The quantisations of all that is multiplied and stored; scores are quantised before they are scaled."""

    query: ByteOperand
    key: ByteOperand
    value: ByteOperand
    scores: ByteTensor
    weights: ByteTensor
    context: ByteTensor


@simd.emitter
def _fold_shifts(context: Any, x: Any, y: Any, factor: Any) -> Any:
    """``y[i] = -factor * sum(x[i])`` of 16 rows of 16 int32 at the address x."""

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        x, y, factor = given
        source = simd.pointer(builder, x)
        rows = [simd.load(builder, simd.element(builder, source, REGISTER * row), WORDS, 4) for row in range(LANES)]
        minus = builder.trunc(builder.neg(factor), I32)
        totals = simd.multiply(builder, combine_across(builder, rows, simd.add), simd.broadcast(builder, minus, LANES))
        simd.store(builder, simd.pointer(builder, y), totals, 4)
        return zero()

    return types.intp(*[types.intp] * 3), generate


@kernel_jit
def _whole(count: int, unit: int) -> int:
    return (count + unit - 1) // unit * unit


@kernel_jit
def _lay_out_keys(a: Any, key: int, block: int, scratch: int) -> int:
    """Make words of 4 bytes of the keys, (size / 4, keys, 4) int8, and what each key's sums begin with."""
    staged, wide = scratch + a.staged_at, _whole(a.size, REGISTER)
    stride, steps = 4 * _whole(a.keys, 16), (a.size + 3) // 4
    fields = ByteFields(a.key_zero_point, a.key_least, a.key_most, 128)
    for row in range(a.keys):
        quantise_row(key + row * a.key_row, block, staged + row * wide, a.size, np.float32(a.key_scale), fields)
    panel = scratch + stride
    transpose_rows(staged, wide, a.keys, steps, panel, stride)
    start = a.size * a.query_zero_point * (a.key_zero_point - 128)
    for first in range(0, a.keys, 16):
        column_starts(panel + 4 * first, stride, steps, scratch + 4 * first, a.query_zero_point, start)
    return 0


@kernel_jit
def _lay_out_values(a: Any, value: int, block: int, scratch: int) -> int:
    """Make words of 4 keys' bytes, (keys / 4, value_size, 4) int8, and what each column's sums begin with."""
    staged, wide = scratch + a.staged_at, _whole(a.value_size, REGISTER)
    stride, steps = 4 * _whole(a.value_size, 16), (a.keys + 3) // 4
    fields = ByteFields(a.value_zero_point, a.value_least, a.value_most, 128)
    for row in range(a.keys):
        place = staged + row * wide
        quantise_row(value + row * a.value_row, block, place, a.value_size, np.float32(a.value_scale), fields)
    rest = carray(as_pointer(staged + a.keys * wide), ((4 * steps - a.keys) * wide,), np.uint8)
    rest[:] = 0
    starts = scratch + a.values_at
    panel = starts + stride
    for step in range(steps):
        interleave_rows(staged + 4 * step * wide, wide, stride // REGISTER, panel + step * stride)
    start = a.keys * a.weights_zero * (a.value_zero_point - 128)
    for first in range(0, a.value_size, 16):
        column_starts(panel + 4 * first, stride, steps, starts + 4 * first, a.weights_zero, start)
    return 0


@kernel_jit
def _group(a: Any, query: int, block: int, mask: int, out: int, scratch: int, rows: int) -> int:
    """Attend with a group of rows of one head to all its keys."""
    wide, key_stride, value_stride = _whole(a.size, REGISTER), 4 * _whole(a.keys, 16), 4 * _whole(a.value_size, 16)
    bytes_, scored, weights = scratch + a.bytes_at, scratch + a.scores_at, scratch + a.weights_at
    weight_stride = _whole(a.keys, REGISTER)
    partial = scratch + a.state_at
    results_at, largest_at = partial + GROUP * 64, partial + GROUP * 64 + 64
    shifts = largest_at + 64
    results = carray(as_pointer(results_at), (GROUP,), np.float32)
    largest = carray(as_pointer(largest_at), (GROUP,), np.float32)
    fields = ByteFields(a.query_zero_point, a.query_least, a.query_most, 0)
    for row in range(rows):
        place = bytes_ + row * wide
        quantise_row(query + row * a.query_row, block, place, a.size, np.float32(a.query_scale), fields)
        row_total(place, wide // REGISTER, partial + 64 * row)
    _fold_shifts(partial, shifts, a.key_zero_point - 128)
    panel, steps = scratch + key_stride, (a.size + 3) // 4
    keyed = Products(bytes_, wide, panel, key_stride, scratch, shifts, steps)
    rounding = Rounding(np.float32(a.scores_factor), np.float32(a.scores_low), np.float32(a.scores_high))
    scores(keyed, scored, key_stride, rows, key_stride // REGISTER, rounding, np.float32(a.scores_scale))
    for row in range(rows):
        here = mask + row * a.mask_row if mask else 0
        scaled_largest(scored + row * key_stride, here, a.keys, partial + 64 * row, np.float32(a.scale))
    fold_largest(partial, largest_at)
    for row in range(rows):
        exponentials(scored + row * key_stride, a.keys, partial + 64 * row, largest[row])
    fold_sums(partial, results_at)
    for row in range(rows):
        factor = np.float32(1) / results[row] / np.float32(a.weights_scale)
        place = weights + row * weight_stride
        weigh_row(scored + row * key_stride, place, a.keys, a.weights_zero, factor)
        row_total(place, weight_stride // REGISTER, partial + 64 * row)
    _fold_shifts(partial, shifts, a.value_zero_point - 128)
    starts, steps = scratch + a.values_at, (a.keys + 3) // 4
    weighted = Products(weights, weight_stride, starts + value_stride, value_stride, starts, shifts, steps)
    rounding = Rounding(np.float32(a.context_factor), np.float32(a.context_low), np.float32(a.context_high))
    context_bytes(weighted, out, a.out_row, rows, a.value_size, rounding, a.context_zero)
    return 0


def _quantised_attention_task(
    task: int, arguments: Any, x: int, other: int, out: int, shared: int, scratch: int
) -> int:
    """Do one part of the blocks of rows of all heads."""
    a = carray(arguments, (1,), _RECORD)[0]
    others = carray(as_pointer(other), (2 + a.has_mask,), np.int64)
    begin, end = part_bounds(a.batch * a.heads * a.blocks, 1, task, a.parts)
    laid_out = -1
    for number in range(begin, end):
        unit, first = number // a.blocks, number % a.blocks * a.rows
        batch, head = unit // a.heads, unit % a.heads
        if unit != laid_out:
            laid_out = unit
            key = others[0] + a.key_at + batch * a.key_batch + head * a.key_head
            value = others[1] + a.value_at + batch * a.value_batch + head * a.value_head
            _lay_out_keys(a, key, a.key_block + unit * a.key_block_bytes, scratch)
            _lay_out_values(a, value, a.value_block + unit * a.value_block_bytes, scratch)
        query = x + a.query_at + batch * a.query_batch + head * a.query_head
        to = out + a.out_at + batch * a.out_batch + head * a.out_head
        mask = others[2] + a.mask_at + batch * a.mask_batch + head * a.mask_head if a.has_mask else 0
        for row in range(first, min(first + a.rows, a.queries), GROUP):
            here = mask + row * a.mask_row if a.has_mask else 0
            _group(
                a,
                query + row * a.query_row,
                a.query_block + unit * a.query_block_bytes,
                here,
                to + row * a.out_row,
                scratch,
                min(GROUP, min(first + a.rows, a.queries) - row),
            )
    return 0


def are_bytes_available(tier: str | None = None) -> bool:
    """Return whether a tier, by default this CPU's best, has the instructions that the kernel is made of."""
    return isa.allows(isa.level(tier), TIER)


def _blocks_of(operand: ByteOperand, units: int, size: int) -> NDArray[np.float32]:
    """Return a :func:`quantised_rows.rows_block` for each head of each batch; none for float32."""
    if operand.source is None:
        return np.zeros((units, 0), np.float32)
    blocks = np.tile(rows_block(operand.source, size), (units, 1))
    if operand.bias is not None:
        blocks[:, 3:] = operand.bias.reshape(units, size)
    return blocks


def _fields(operand: ByteOperand) -> Sequence[float]:
    one = operand.quantised
    return (one.quantisation.scale, *byte_fields(one.quantisation, one.dtype))


def _bounds(one: ByteTensor) -> tuple[float, float]:
    """Return the least and the most byte, without the zero point."""
    info = np.iinfo(one.dtype)
    return info.min - one.quantisation.zero_point, info.max - one.quantisation.zero_point


def _factor(a: ByteTensor, b: ByteTensor, y: ByteTensor) -> float:
    """Return what sums of products are multiplied by, rounded as onnxruntime does."""
    scales = [np.float32(one.quantisation.scale) for one in (a, b, y)]
    return float(scales[0] * scales[1] / scales[2])


def prepare_quantised_attention(attention: Attention, bytes_: QuantisedAttention, threads: int) -> Launch:
    """Prepare attention between bytes: ``launch.run(query, out, pool, key, value)``, or ``(..., key, value, mask)``.

    The steps are those of separate operators: query and key are quantised; their products, exact sums of integers, are
    quantised; what they stand for is scaled and masked; weights are softmax, quantised; their products with the
    quantised value are quantised. Each rounds half to even. The exponential, and with it a weight next to a tie,
    may be rounded otherwise than somewhere else. All keys are laid out at once: scratch memory grows with them.
    """
    a, q = attention, bytes_
    units = a.batch * a.heads
    row_nanoseconds = a.keys * ((a.size + a.value_size) * _NANOSECONDS + _SCORE_NANOSECONDS)
    blocks = Blocks.of(a, 4 * (a.size + a.value_size), a.queries, row_nanoseconds, threads)
    padded = [-(-size // REGISTER) * REGISTER for size in (a.size, a.value_size, a.keys)]
    key_stride, value_stride = 4 * (-(-a.keys // 16) * 16), 4 * (-(-a.value_size // 16) * 16)
    # Transposing writes whole squares of 16 words.
    values_at = key_stride * (1 + -(-a.size // 64) * 16)
    staged_at = values_at + value_stride * (1 + -(-a.keys // 4))
    query_at = staged_at + (a.keys + 4) * max(padded[:2]) + REGISTER
    scores_at = query_at + GROUP * padded[0] + REGISTER
    weights_at = scores_at + GROUP * key_stride
    state_at = weights_at + GROUP * padded[2]
    sizes = (a.size, a.size, a.value_size)
    tables = [_blocks_of(one, units, size) for one, size in zip((q.query, q.key, q.value), sizes, strict=True)]
    addresses = [number for table in tables for number in (table.ctypes.data if table.size else 0, table.strides[0])]
    scores_low, scores_high = _bounds(q.scores)
    context_low, context_high = _bounds(q.context)
    record = (
        *(a.batch, a.heads, a.queries, a.keys, a.size, a.value_size),
        *(blocks.rows, blocks.blocks, blocks.parts, a.mask is not None),
        *(values_at, staged_at, query_at, scores_at, weights_at, state_at),
        *addresses,
        *_fields(q.query),
        *_fields(q.key),
        *_fields(q.value),
        *(a.scale, _factor(q.query.quantised, q.key.quantised, q.scores), scores_low, scores_high),
        *(q.scores.quantisation.scale, q.weights.quantisation.scale),
        *(_factor(q.weights, q.value.quantised, q.context), context_low, context_high),
        *(q.weights.unsigned_zero, q.context.quantisation.zero_point),
        *a.places(),
    )
    phase = Phase(_quantised_attention_task, np.array([record], _RECORD), blocks.parts)
    return Launch([phase], 0, state_at + _STATE_BYTES, keep=tuple(tables))
