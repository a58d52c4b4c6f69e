"""float32 to bytes: QuantizeLinear with one scale."""

from typing import Any

import numpy as np

from sparse_rt_kernels.jit.compiler import carray, types
from sparse_rt_kernels.jit.llvm import I64
from sparse_rt_kernels.threads.launch import Launch, Phase
from sparse_rt_kernels.threads.parts import part_bounds, worthwhile_parts
from sparse_rt_kernels.vectors import lanes, simd
from sparse_rt_kernels.vectors.loops import UNIT, each_unit, zero
from sparse_rt_kernels.vectors.narrowing import Divisor, to_bytes
from sparse_rt_kernels.vectors.quantisation import BYTE_FIELDS, Quantisation, byte_fields
from sparse_rt_kernels.vectors.registers import LANES

__all__ = ["prepare_quantise", "quantise_range"]

_RECORD = np.dtype([("count", "i8"), ("parts", "i8"), ("scale", "f8"), *BYTE_FIELDS])
#: Of one element on one core, from the last cache.
_NANOSECONDS = 0.05


@simd.emitter
def quantise_range(
    context: Any, x: Any, y: Any, count: Any, scale: Any, zero_point: Any, least: Any, most: Any, flip: Any
) -> Any:
    """``y = bytes(x / scale)`` of `count` float32 at x; the last four are those of :func:`narrowing.to_bytes`."""

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        x, y, count, scale, *fields = given
        divisor = Divisor(builder, scale)

        def quantise(at: Any, rest: Any) -> None:
            place = builder.add(x, builder.mul(at, I64(4)))
            loaded = [lanes.load_floats(builder, place, first, rest) for first in range(0, UNIT, LANES)]
            quotients = [divisor.quotient(builder, value) for value in loaded]
            lanes.store_bytes(builder, builder.add(y, at), to_bytes(builder, quotients, fields), rest)

        each_unit(builder, count, quantise)
        return zero()

    return types.intp(*[types.intp] * 3, types.float32, *[types.intp] * 4), generate


def _quantise_task(task: int, arguments: Any, x: int, other: int, out: int, shared: int, scratch: int) -> int:
    """Quantise one part of the elements."""
    r = carray(arguments, (1,), _RECORD)[0]
    first, last = part_bounds(r.count, UNIT, task, r.parts)
    count, scale = last - first, np.float32(r.scale)
    return quantise_range(x + 4 * first, out + first, count, scale, r.zero_point, r.least, r.most, r.flip)


def prepare_quantise(
    count: int, y_dtype: np.dtype[Any], y: Quantisation, threads: int, low: float = -np.inf, high: float = np.inf
) -> Launch:
    """Prepare ``y = saturate(round_half_even(clip(x, low, high) / scale) + zero_point)``: ``launch.run(x, y, pool)``.

    `x` holds `count` float32, `y` as many bytes, both C-contiguous. The quotient is that of float32 division, as in
    onnxruntime; so are the byte of NaN, the least, and those of infinities.
    """
    parts = worthwhile_parts(count * _NANOSECONDS, threads)
    record = (count, parts, y.scale, *byte_fields(y, y_dtype, low, high))
    return Launch([Phase(_quantise_task, np.array([record], _RECORD), parts)])
