"""Add two tensors of bytes, each with a scale of its own, to a third: the residual add of a quantised network."""

import functools
from functools import partial
from typing import Any

import numpy as np

from sparse_rt_kernels.jit.compiler import carray, types
from sparse_rt_kernels.product.quantised_add import QuantisedAdd
from sparse_rt_kernels.threads.launch import Launch, Phase
from sparse_rt_kernels.threads.parts import part_bounds, worthwhile_parts
from sparse_rt_kernels.threads.pool import ThreadPool
from sparse_rt_kernels.vectors import lanes, simd
from sparse_rt_kernels.vectors.loops import UNIT, each_choice, each_unit, zero
from sparse_rt_kernels.vectors.narrowing import to_bytes
from sparse_rt_kernels.vectors.quantisation import BYTE_FIELDS, byte_fields, is_signed
from sparse_rt_kernels.vectors.registers import LANES

__all__ = ["prepare_quantised_add", "sum_of_bytes"]

_RECORD = np.dtype(
    [
        *((name, "i8") for name in ("count", "parts", "a_signed", "b_signed")),
        *((name, "f8") for name in ("a_ratio", "b_ratio", "offset")),
        *BYTE_FIELDS,
    ]
)
#: Of one element on one core, from cache.
_NANOSECONDS = 0.05


@simd.emitter
def _add_range(
    context: Any,
    a: Any,
    b: Any,
    y: Any,
    count: Any,
    a_signed: Any,
    b_signed: Any,
    a_ratio: Any,
    b_ratio: Any,
    offset: Any,
    zero_point: Any,
    least: Any,
    most: Any,
    flip: Any,
) -> Any:
    """``y = bytes(a * a_ratio + (b * b_ratio + offset))`` of `count` bytes at addresses.

    `a_signed` and `b_signed` are 0 or 1; the last four are those of :func:`narrowing.to_bytes`.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        a, b, y, count, a_signed, b_signed, *floats = given[:9]
        a_ratio, b_ratio, offset = (lanes.broadcast_float(builder, value) for value in floats)

        def add(first_signed: int, second_signed: int, at: Any, rest: Any) -> None:
            one_place, two_place, out = (builder.add(base, at) for base in (a, b, y))
            sums = []
            for first in range(0, UNIT, LANES):
                one = lanes.load_bytes(builder, one_place, first, first_signed, rest)
                two = lanes.load_bytes(builder, two_place, first, second_signed, rest)
                sums.append(
                    lanes.multiply_add(builder, one, a_ratio, lanes.multiply_add(builder, two, b_ratio, offset))
                )
            lanes.store_bytes(builder, out, to_bytes(builder, sums, given[9:]), rest)

        each_choice(builder, [a_signed, b_signed], lambda *signs: each_unit(builder, count, partial(add, *signs)))
        return zero()

    return types.intp(*[types.intp] * 6, *[types.float32] * 3, *[types.intp] * 4), generate


def _add_task(task: int, arguments: Any, x: int, other: int, out: int, shared: int, scratch: int) -> int:
    """Add one part of the elements."""
    r = carray(arguments, (1,), _RECORD)[0]
    first, last = part_bounds(r.count, UNIT, task, r.parts)
    return _add_range(
        x + first,
        other + first,
        out + first,
        last - first,
        r.a_signed,
        r.b_signed,
        np.float32(r.a_ratio),
        np.float32(r.b_ratio),
        np.float32(r.offset),
        r.zero_point,
        r.least,
        r.most,
        r.flip,
    )


def prepare_quantised_add(
    count: int,
    a_dtype: np.dtype[Any],
    b_dtype: np.dtype[Any],
    y_dtype: np.dtype[Any],
    parameters: QuantisedAdd,
    threads: int,
) -> Launch:
    """Prepare the sum of two tensors of `count` bytes: ``launch.run(a, y, pool, other=b)``, all C-contiguous.

    See :class:`QuantisedAdd` for what is computed. The quotients sa / sy and sb / sy are rounded to float32 first and
    multiplied without rounding in between, so that next to a tie the byte may differ by one from that of separate
    operators. `y` may be `a` or `b`.
    """
    fields = byte_fields(parameters.y, y_dtype, parameters.low, parameters.high)
    parts = worthwhile_parts(count * _NANOSECONDS, threads)
    record = (count, parts, is_signed(a_dtype), is_signed(b_dtype), *parameters.quotients, *fields)
    return Launch([Phase(_add_task, np.array([record], _RECORD), parts)])


@functools.lru_cache(maxsize=1024)
def sum_of_bytes(parameters: QuantisedAdd, a: int, b: int) -> int:
    """Return the sum of two uint8, as uint8: what the kernel makes of them, with its roundings."""
    byte = np.dtype(np.uint8)
    one, other, y = (np.array([value], byte) for value in (a, b, 0))
    prepare_quantised_add(1, byte, byte, byte, parameters, 1).run(one, y, ThreadPool(1), other)
    return int(y[0])
