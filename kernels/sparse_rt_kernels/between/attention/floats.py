"""Attention of float32."""

from typing import Any, Final

import numpy as np

from sparse_rt_kernels.between.attention.panels import copy_rows, transpose_rows
from sparse_rt_kernels.between.attention.problem import GROUP, PLACES, Attention, Blocks
from sparse_rt_kernels.between.attention.rows import exponentials, scale_row, scaled_largest
from sparse_rt_kernels.between.attention.tile import Product, multiply
from sparse_rt_kernels.cpu import isa
from sparse_rt_kernels.jit.compilation import kernel_jit
from sparse_rt_kernels.jit.compiler import carray
from sparse_rt_kernels.threads.launch import Launch, Phase
from sparse_rt_kernels.threads.parts import part_bounds
from sparse_rt_kernels.threads.workspace import as_pointer
from sparse_rt_kernels.vectors.across import fold_largest, fold_sums

__all__ = ["is_available", "prepare_attention"]

_RECORD = np.dtype(
    [
        *((name, "i8") for name in ("batch", "heads", "queries", "keys", "size", "value_size")),
        *((name, "i8") for name in ("rows", "blocks", "key_block", "parts", "has_mask")),
        *((name, "i8") for name in ("values_at", "scores_at", "context_at", "state_at")),
        ("scale", "f8"),
        *PLACES,
    ]
)
#: Rows for whose contexts there is scratch memory, where not all keys are laid out at once.
_MOST_ROWS: Final = 256
#: Partial results of a group of rows (16 registers), and its 16 results.
_PARTIAL_BYTES: Final = GROUP * 64 + 64
#: Of one product of a query's and a key's element and one of a value's, on one core.
_NANOSECONDS: Final = 1 / 50
_LOWEST = np.float32(np.finfo(np.float32).min)


@kernel_jit
def _padded(count: int) -> int:
    """Return the bytes of `count` float32 in whole registers."""
    return (count + 15) // 16 * 64


@kernel_jit
def _weigh(a: Any, scratch: int, mask: int, rows: int, keys: int, row: int, is_first: int) -> int:
    """Make weights of the scores of a group of rows that begins with `row`; bring its context so far to their largest.

    `mask` is the address of the group's first row, or 0.
    """
    stride, context_stride = _padded(a.key_block), _padded(a.value_size)
    scores, context = scratch + a.scores_at, scratch + a.context_at + row * context_stride
    partial = scratch + a.state_at
    results = carray(as_pointer(partial + GROUP * 64), (GROUP,), np.float32)
    largest = carray(as_pointer(partial + _PARTIAL_BYTES + 4 * row), (GROUP,), np.float32)
    sums = carray(as_pointer(partial + _PARTIAL_BYTES + 4 * (a.rows + GROUP) + 4 * row), (GROUP,), np.float32)
    for number in range(rows):
        here = mask + number * a.mask_row if mask else 0
        scaled_largest(scores + number * stride, here, keys, partial + 64 * number, np.float32(a.scale))
    fold_largest(partial, partial + GROUP * 64)
    for number in range(rows):
        before = largest[number]
        if not is_first:
            largest[number] = max(before, results[number])
            # Nothing but -inf so far: whatever was summed up counts for nothing beside what follows.
            factor = np.float32(np.exp(max(before, _LOWEST) - max(largest[number], _LOWEST)))
            sums[number] *= factor
            scale_row(context + number * context_stride, context + number * context_stride, a.value_size, factor)
        else:
            largest[number] = results[number]
            sums[number] = 0
        shift = max(largest[number], _LOWEST)
        exponentials(scores + number * stride, keys, partial + 64 * number, shift)
    fold_sums(partial, partial + GROUP * 64)
    for number in range(rows):
        sums[number] += results[number]
    return 0


@kernel_jit
def _finish(a: Any, scratch: int, out: int, rows: int, row: int) -> int:
    """Divide a group's contexts by the sums of their weights, and store them. Rows without any key are NaN."""
    context_stride = _padded(a.value_size)
    context = scratch + a.context_at + row * context_stride
    state = scratch + a.state_at + _PARTIAL_BYTES
    largest = carray(as_pointer(state + 4 * row), (GROUP,), np.float32)
    sums = carray(as_pointer(state + 4 * (a.rows + GROUP) + 4 * row), (GROUP,), np.float32)
    for number in range(rows):
        factor = np.float32(1) / sums[number] if largest[number] > -np.inf else np.float32(np.nan)
        scale_row(context + number * context_stride, out + number * a.out_row, a.value_size, factor)
    return 0


@kernel_jit
def _block(a: Any, x: int, key: int, value: int, mask: int, out: int, scratch: int, rows: int) -> int:
    """Attend with `rows` rows of one head to all its keys."""
    values, scores, context = scratch + a.values_at, scratch + a.scores_at, scratch + a.context_at
    stride, context_stride = _padded(a.key_block), _padded(a.value_size)
    for first in range(0, a.keys, a.key_block):
        keys = min(a.key_block, a.keys - first)
        transpose_rows(key + first * a.key_row, a.key_row, keys, a.size, scratch, stride)
        copy_rows(value + first * a.value_row, a.value_row, keys, a.value_size, values, context_stride)
        for row in range(0, rows, GROUP):
            group = min(GROUP, rows - row)
            query = x + row * a.query_row
            multiply(Product(query, a.query_row, scratch, stride, scores, stride, a.size, 0), group, (keys + 15) // 16)
            here = mask + row * a.mask_row + 4 * first if mask else 0
            _weigh(a, scratch, here, group, keys, row, 1 if first == 0 else 0)
            to = context + row * context_stride
            weighted = Product(scores, stride, values, context_stride, to, context_stride, keys, first)
            multiply(weighted, group, context_stride // 64)
    for row in range(0, rows, GROUP):
        _finish(a, scratch, out + row * a.out_row, min(GROUP, rows - row), row)
    return 0


def _attention_task(task: int, arguments: Any, x: int, other: int, out: int, shared: int, scratch: int) -> int:
    """Do one part of the blocks of rows of all heads."""
    a = carray(arguments, (1,), _RECORD)[0]
    others = carray(as_pointer(other), (2 + a.has_mask,), np.int64)
    begin, end = part_bounds(a.batch * a.heads * a.blocks, 1, task, a.parts)
    for number in range(begin, end):
        head, first = number // a.blocks % a.heads, number % a.blocks * a.rows
        batch = number // a.blocks // a.heads
        query = x + a.query_at + batch * a.query_batch + head * a.query_head + first * a.query_row
        key = others[0] + a.key_at + batch * a.key_batch + head * a.key_head
        value = others[1] + a.value_at + batch * a.value_batch + head * a.value_head
        to = out + a.out_at + batch * a.out_batch + head * a.out_head + first * a.out_row
        mask = 0
        if a.has_mask:
            mask = others[2] + a.mask_at + batch * a.mask_batch + head * a.mask_head + first * a.mask_row
        _block(a, query, key, value, mask, to, scratch, min(a.rows, a.queries - first))
    return 0


def is_available(tier: str | None = None) -> bool:
    """Return whether a tier, by default this CPU's best, has the registers that the kernel is made for."""
    return isa.allows(isa.level(tier), "avx512")


def prepare_attention(attention: Attention, threads: int) -> Launch:
    """Prepare attention of float32: ``launch.run(query, out, pool, key, value)``, or ``(..., key, value, mask)``.

    Nothing overflows, for the largest score of a row is subtracted first; a weight of less than exp(-87) of the largest
    comes out as that. A row that holds NaN, or inf, or nothing but -inf, becomes NaN.
    """
    a = attention
    key_bytes = 4 * (a.size + a.value_size + 30)
    row_nanoseconds = a.keys * (a.size + a.value_size) * _NANOSECONDS
    blocks = Blocks.of(a, key_bytes, _MOST_ROWS, row_nanoseconds, threads)
    stride, context_stride = -(-blocks.keys // 16) * 64, -(-a.value_size // 16) * 64
    rows = -(-blocks.rows // GROUP) * GROUP
    values_at = -(-a.size // 16) * 16 * stride
    scores_at = values_at + blocks.keys * context_stride
    context_at = scores_at + GROUP * stride
    state_at = context_at + rows * context_stride
    nbytes = state_at + _PARTIAL_BYTES + 8 * (rows + GROUP)
    record = (
        *(a.batch, a.heads, a.queries, a.keys, a.size, a.value_size),
        *(blocks.rows, blocks.blocks, blocks.keys, blocks.parts, a.mask is not None),
        *(values_at, scores_at, context_at, state_at),
        a.scale,
        *a.places(),
    )
    return Launch([Phase(_attention_task, np.array([record], _RECORD), blocks.parts)], 0, nbytes)
