"""Add two float32 tensors of one shape and clip the sum."""

from typing import Any

import numpy as np

from sparse_rt_kernels.jit.compiler import carray, types
from sparse_rt_kernels.threads.launch import Launch, Phase
from sparse_rt_kernels.threads.parts import part_bounds, worthwhile_parts
from sparse_rt_kernels.vectors import lanes, simd
from sparse_rt_kernels.vectors.loops import UNIT, each_unit, zero
from sparse_rt_kernels.vectors.registers import LANES

__all__ = ["prepare_add"]

_RECORD = np.dtype([("count", "i8"), ("parts", "i8"), ("low", "f8"), ("high", "f8")])
#: Of one element on one core, from the last cache.
_NANOSECONDS = 0.12


@simd.emitter
def _add_range(context: Any, a: Any, b: Any, y: Any, count: Any, low: Any, high: Any) -> Any:
    """``y = min(max(a + b, low), high)`` of `count` float32 at addresses; NaN stays NaN."""

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        *bases, count, low, high = given
        low, high = (lanes.broadcast_float(builder, bound) for bound in (low, high))

        def add(at: Any, rest: Any) -> None:
            nbytes = builder.mul(at, zero().type(4))
            one, two, out = (builder.add(base, nbytes) for base in bases)
            for first in range(0, UNIT, LANES):
                a, b = (lanes.load_floats(builder, place, first, rest) for place in (one, two))
                # larger and smaller give their second operand if either is NaN.
                above = simd.larger(builder, low, simd.fadd(builder, a, b))
                lanes.store_floats(builder, out, first, simd.smaller(builder, high, above), rest)

        each_unit(builder, count, add)
        return zero()

    return types.intp(*[types.intp] * 4, types.float32, types.float32), generate


def _add_task(task: int, arguments: Any, x: int, other: int, out: int, shared: int, scratch: int) -> int:
    """Add one part of the elements."""
    r = carray(arguments, (1,), _RECORD)[0]
    first, last = part_bounds(r.count, UNIT, task, r.parts)
    at = 4 * first
    return _add_range(x + at, other + at, out + at, last - first, np.float32(r.low), np.float32(r.high))


def prepare_add(count: int, threads: int, low: float = -np.inf, high: float = np.inf) -> Launch:
    """Prepare ``y = min(max(a + b, low), high)`` of `count` float32: ``launch.run(a, y, pool, other=b)``.

    All are C-contiguous; `y` may be `a` or `b`. A NaN stays NaN.
    """
    parts = worthwhile_parts(count * _NANOSECONDS, threads)
    return Launch([Phase(_add_task, np.array([(count, parts, low, high)], _RECORD), parts)])
