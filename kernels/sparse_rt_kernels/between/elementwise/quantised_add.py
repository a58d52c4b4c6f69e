"""Add two tensors of bytes, each with a scale of its own, to a third: the residual add of a quantised network."""

import functools
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from sparse_rt_kernels.cpu import isa
from sparse_rt_kernels.jit.compilation import TaskFunction
from sparse_rt_kernels.jit.compiler import carray, types
from sparse_rt_kernels.product.quantised_add import QuantisedAdd
from sparse_rt_kernels.threads.launch import Launch, Phase
from sparse_rt_kernels.threads.parts import part_bounds, worthwhile_parts
from sparse_rt_kernels.threads.pool import ThreadPool
from sparse_rt_kernels.vectors import lanes, simd
from sparse_rt_kernels.vectors.loops import UNIT, each_choice, each_unit, zero
from sparse_rt_kernels.vectors.narrowing import to_bytes
from sparse_rt_kernels.vectors.quantisation import BYTE_FIELDS, ByteFields, byte_fields, is_signed
from sparse_rt_kernels.vectors.records import fields_of
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


class _Sides(NamedTuple):
    """What is added: addresses of two arrays of bytes, and 0 or 1 for unsigned and signed ones; ints or IR i64."""

    a: Any
    b: Any
    a_signed: Any
    b_signed: Any


class _Factors(NamedTuple):
    """float32, in kernels and emitted: see :attr:`.QuantisedAdd.quotients`."""

    a_ratio: Any
    b_ratio: Any
    offset: Any


@simd.emitter
def _add_range(
    context: Any, level: Any, is_shifted: Any, sides: Any, y: Any, count: Any, factors: Any, fields: Any
) -> Any:
    """``y = bytes(a * a_ratio + (b * b_ratio + offset))`` of `count` bytes: :class:`_Sides` and :class:`_Factors`.

    `level` is a literal int, that of :mod:`isa`; `is_shifted`, a literal int, is 1 if signed operands lie with 128
    added; `fields` are :class:`quantisation.ByteFields`.
    """
    shifted = bool(is_shifted.literal_value)

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        *_, given_sides, y, count, given_factors, held = given
        one_side = fields_of(builder, _Sides, given_sides)
        ratios = fields_of(builder, _Factors, given_factors)
        after = fields_of(builder, ByteFields, held)
        a_ratio, b_ratio, offset = (lanes.broadcast_float(builder, value) for value in ratios)

        def add(first_signed: int, second_signed: int, at: Any, rest: Any) -> None:
            one_place, two_place, out = (builder.add(base, at) for base in (one_side.a, one_side.b, y))
            sums = []
            for first in range(0, UNIT, LANES):
                one = lanes.load_bytes(builder, one_place, first, first_signed, rest, shifted)
                two = lanes.load_bytes(builder, two_place, first, second_signed, rest, shifted)
                sums.append(
                    lanes.multiply_add(builder, one, a_ratio, lanes.multiply_add(builder, two, b_ratio, offset))
                )
            lanes.store_bytes(builder, out, to_bytes(builder, level.literal_value, sums, after), rest)

        signs = [one_side.a_signed, one_side.b_signed]
        each_choice(builder, signs, lambda *signs: each_unit(builder, count, partial(add, *signs)))
        return zero()

    return types.intp(level, is_shifted, sides, types.intp, types.intp, factors, fields), generate


@functools.cache
def _task(level: int, is_shifted: int) -> TaskFunction:
    """Return the task; see :func:`_add_range`."""

    def add_task(task: int, arguments: Any, x: int, other: int, out: int, shared: int, scratch: int) -> int:
        """Add one part of the elements."""
        r = carray(arguments, (1,), _RECORD)[0]
        first, last = part_bounds(r.count, UNIT, task, r.parts)
        sides = _Sides(x + first, other + first, r.a_signed, r.b_signed)
        factors = _Factors(np.float32(r.a_ratio), np.float32(r.b_ratio), np.float32(r.offset))
        fields = ByteFields(r.zero_point, r.least, r.most, r.flip)
        return _add_range(level, is_shifted, sides, out + first, last - first, factors, fields)

    return add_task


def prepare_quantised_add(
    count: int,
    a_dtype: np.dtype[Any],
    b_dtype: np.dtype[Any],
    y_dtype: np.dtype[Any],
    parameters: QuantisedAdd,
    threads: int,
    tier: str | None = None,
    in_blocks: bool = False,
) -> Launch:
    """Prepare the sum of two tensors of `count` bytes: ``launch.run(a, y, pool, other=b)``, all C-contiguous.

    See :class:`QuantisedAdd` for what is computed. The quotients sa / sy and sb / sy are rounded to float32 first and
    multiplied without rounding in between, so that next to a tie the byte may differ by one from that of separate
    operators. `y` may be `a` or `b`. `tier` is the most specific one whose instructions may be used; see
    :func:`isa.supported_tiers`. Where all are `in_blocks`, int8 lies with 128 added; see :class:`.nchwc8.NCHWc8`.
    """
    *fields, flip = byte_fields(parameters.y, y_dtype, parameters.low, parameters.high)
    parts = worthwhile_parts(count * _NANOSECONDS, threads)
    signs = (is_signed(a_dtype), is_signed(b_dtype))
    record = (count, parts, *signs, *parameters.quotients, *fields, 0 if in_blocks else flip)
    return Launch([Phase(_task(isa.level(tier), int(in_blocks)), np.array([record], _RECORD), parts)])


@functools.lru_cache(maxsize=1024)
def sum_of_bytes(
    parameters: QuantisedAdd, dtypes: tuple[np.dtype[Any], np.dtype[Any]], y_dtype: np.dtype[Any], a: int, b: int
) -> int:
    """Return the sum of two bytes as they lie in blocks: what the kernel makes of them, with its roundings."""
    one, other, y = (np.array([value], np.uint8) for value in (a, b, 0))
    prepare_quantised_add(1, *dtypes, y_dtype, parameters, 1, in_blocks=True).run(one, y, ThreadPool(1), other)
    return int(y[0])
