"""float32 to bytes: QuantizeLinear with one scale."""

import functools
from typing import Any

import numpy as np

from sparse_rt_kernels.cpu import isa
from sparse_rt_kernels.jit.compilation import TaskFunction
from sparse_rt_kernels.jit.compiler import carray, types
from sparse_rt_kernels.jit.llvm import I64
from sparse_rt_kernels.threads.launch import Launch, Phase
from sparse_rt_kernels.threads.parts import part_bounds, worthwhile_parts
from sparse_rt_kernels.vectors import lanes, simd
from sparse_rt_kernels.vectors.loops import UNIT, each_unit, zero
from sparse_rt_kernels.vectors.narrowing import Divisor, to_bytes
from sparse_rt_kernels.vectors.quantisation import BYTE_FIELDS, ByteFields, Quantisation, byte_fields
from sparse_rt_kernels.vectors.records import fields_of
from sparse_rt_kernels.vectors.registers import LANES

__all__ = ["prepare_quantise", "quantise_range"]

_RECORD = np.dtype([("count", "i8"), ("parts", "i8"), ("scale", "f8"), *BYTE_FIELDS])
#: Of one element on one core, from the last cache.
_NANOSECONDS = 0.05


@simd.emitter
def quantise_range(context: Any, level: Any, x: Any, y: Any, count: Any, scale: Any, fields: Any) -> Any:
    """``y = bytes(x / scale)`` of `count` float32 at x.

    `level` is a literal int, that of :mod:`isa`; `fields` are :class:`quantisation.ByteFields`.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        _, x, y, count, scale, held = given
        divisor, after = Divisor(builder, scale), fields_of(builder, ByteFields, held)

        def quantise(at: Any, rest: Any) -> None:
            place = builder.add(x, builder.mul(at, I64(4)))
            loaded = [lanes.load_floats(builder, place, first, rest) for first in range(0, UNIT, LANES)]
            quotients = [divisor.quotient(builder, value) for value in loaded]
            narrow = to_bytes(builder, level.literal_value, quotients, after)
            lanes.store_bytes(builder, builder.add(y, at), narrow, rest)

        each_unit(builder, count, quantise)
        return zero()

    return types.intp(level, *[types.intp] * 3, types.float32, fields), generate


@functools.cache
def _task(level: int) -> TaskFunction:
    """Return the task for a level of :mod:`isa`."""

    def quantise_task(task: int, arguments: Any, x: int, other: int, out: int, shared: int, scratch: int) -> int:
        """Quantise one part of the elements."""
        r = carray(arguments, (1,), _RECORD)[0]
        first, last = part_bounds(r.count, UNIT, task, r.parts)
        fields = ByteFields(r.zero_point, r.least, r.most, r.flip)
        return quantise_range(level, x + 4 * first, out + first, last - first, np.float32(r.scale), fields)

    return quantise_task


def prepare_quantise(
    count: int,
    y_dtype: np.dtype[Any],
    y: Quantisation,
    threads: int,
    low: float = -np.inf,
    high: float = np.inf,
    tier: str | None = None,
) -> Launch:
    """Prepare ``y = saturate(round_half_even(clip(x, low, high) / scale) + zero_point)``: ``launch.run(x, y, pool)``.

    `x` holds `count` float32, `y` as many bytes, both C-contiguous. The quotient is that of float32 division, as in
    onnxruntime; so are the byte of NaN, the least, and those of infinities. `tier` is the most specific one whose
    instructions may be used; see :func:`isa.supported_tiers`.
    """
    parts = worthwhile_parts(count * _NANOSECONDS, threads)
    record = (count, parts, y.scale, *byte_fields(y, y_dtype, low, high))
    return Launch([Phase(_task(isa.level(tier)), np.array([record], _RECORD), parts)])
