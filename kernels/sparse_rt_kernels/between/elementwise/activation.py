"""Sigmoid and tanh of float32, to float32 or bytes."""

from typing import Any, Final

import numpy as np

from sparse_rt_kernels.between.elementwise.logistic import sigmoid, tanh
from sparse_rt_kernels.jit.compiler import carray, types
from sparse_rt_kernels.jit.llvm import I64
from sparse_rt_kernels.threads.launch import Launch, Phase
from sparse_rt_kernels.threads.parts import part_bounds, worthwhile_parts
from sparse_rt_kernels.vectors import lanes, simd
from sparse_rt_kernels.vectors.loops import UNIT, each_choice, each_unit, zero
from sparse_rt_kernels.vectors.narrowing import Divisor, to_bytes
from sparse_rt_kernels.vectors.quantisation import BYTE_FIELDS, Quantisation, byte_fields
from sparse_rt_kernels.vectors.registers import LANES

__all__ = ["ACTIVATIONS", "prepare_activation"]

#: By the number that stands for them in a record.
ACTIVATIONS: Final = ("sigmoid", "tanh")
_CURVES: Final = (sigmoid, tanh)
_RECORD = np.dtype(
    [*((name, "i8") for name in ("count", "parts", "itemsize", "number")), ("scale", "f8"), *BYTE_FIELDS]
)
#: Of one element on one core.
_NANOSECONDS: Final = 0.25


@simd.emitter
def _activate(
    context: Any,
    x: Any,
    y: Any,
    count: Any,
    number: Any,
    to_float: Any,
    scale: Any,
    zero_point: Any,
    least: Any,
    most: Any,
    flip: Any,
) -> Any:
    """``y = f(x)`` of `count` float32, f being the `number`-th activation; if not `to_float`, ``bytes(f(x) / scale)``.

    The last four are those of :func:`narrowing.to_bytes`.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        x, y, count, number, to_float, scale, *fields = given
        divisor = Divisor(builder, scale)

        def activate(which: int, is_float: int, at: Any, rest: Any) -> None:
            offset = builder.mul(at, I64(4))
            source = builder.add(x, offset)
            loaded = [lanes.load_floats(builder, source, first, rest) for first in range(0, UNIT, LANES)]
            results = _CURVES[which](builder, loaded)
            if is_float:
                for lane, value in enumerate(results):
                    lanes.store_floats(builder, builder.add(y, offset), lane * LANES, value, rest)
                return
            # What is quantised is itself off by more than the product.
            quotients = [divisor.product(builder, value) for value in results]
            lanes.store_bytes(builder, builder.add(y, at), to_bytes(builder, quotients, fields), rest)

        each_choice(
            builder,
            [number, to_float],
            lambda which, is_float: each_unit(builder, count, lambda at, rest: activate(which, is_float, at, rest)),
        )
        return zero()

    return types.intp(*[types.intp] * 5, types.float32, *[types.intp] * 4), generate


def _activation_task(task: int, arguments: Any, x: int, other: int, out: int, shared: int, scratch: int) -> int:
    """Do one part of the elements."""
    r = carray(arguments, (1,), _RECORD)[0]
    first, last = part_bounds(r.count, UNIT, task, r.parts)
    source, target, scale = x + 4 * first, out + r.itemsize * first, np.float32(r.scale)
    to_float, count = r.itemsize // 4, last - first
    return _activate(source, target, count, r.number, to_float, scale, r.zero_point, r.least, r.most, r.flip)


def prepare_activation(
    name: str, count: int, threads: int, y: Quantisation | None = None, y_dtype: np.dtype[Any] | None = None
) -> Launch:
    """Prepare ``y = name(x)``: ``launch.run(x, y, pool)``.

    Parameters
    ----------
    name
        One of :data:`ACTIVATIONS`.
    count
        `x` holds as many float32, and `y` elements, both C-contiguous; `y` may be `x` if it is float32.
    threads
        How many threads there are to split the work over.
    y, y_dtype
        What the result is quantised to, int8 or uint8; None gives float32.

    Notes
    -----
    The relative error is below 5e-7, of results from 1e-37 on. NaN gives NaN, or the least byte.
    """
    parts = worthwhile_parts(count * _NANOSECONDS, threads)
    number = ACTIVATIONS.index(name)
    if y is None or y_dtype is None:
        record = (count, parts, 4, number, 1.0, 0, 0, 0, 0)
    else:
        record = (count, parts, 1, number, y.scale, *byte_fields(y, y_dtype, -np.inf, np.inf))
    return Launch([Phase(_activation_task, np.array([record], _RECORD), parts)])
