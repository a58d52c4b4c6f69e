"""Sigmoid and tanh of float32, to float32 or bytes."""

import functools
from typing import Any, Final, NamedTuple

import numpy as np

from sparse_rt_kernels.between.elementwise.logistic import sigmoid, tanh
from sparse_rt_kernels.cpu import isa
from sparse_rt_kernels.jit.compilation import TaskFunction
from sparse_rt_kernels.jit.compiler import carray, types
from sparse_rt_kernels.jit.llvm import I64
from sparse_rt_kernels.threads.launch import Launch, Phase
from sparse_rt_kernels.threads.parts import part_bounds, worthwhile_parts
from sparse_rt_kernels.vectors import lanes, simd
from sparse_rt_kernels.vectors.loops import UNIT, each_choice, each_unit, zero
from sparse_rt_kernels.vectors.narrowing import Divisor, to_bytes
from sparse_rt_kernels.vectors.quantisation import BYTE_FIELDS, ByteFields, ByteTensor, byte_fields
from sparse_rt_kernels.vectors.records import fields_of
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


class _Choice(NamedTuple):
    """Which code runs: the number of the activation, and whether its results stay floats; ints or IR i64."""

    number: Any
    to_float: Any


@simd.emitter
def _activate(context: Any, level: Any, x: Any, y: Any, count: Any, choice: Any, scale: Any, fields: Any) -> Any:
    """``y = f(x)`` of `count` float32, or ``bytes(f(x) / scale)``; f and which of them is a :class:`_Choice`.

    `level` is a literal int, that of :mod:`isa`; `fields` are :class:`quantisation.ByteFields`.
    """

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        _, x, y, count, chosen, scale, held = given
        divisor, after = Divisor(builder, scale), fields_of(builder, ByteFields, held)

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
            narrow = to_bytes(builder, level.literal_value, quotients, after)
            lanes.store_bytes(builder, builder.add(y, at), narrow, rest)

        each_choice(
            builder,
            list(fields_of(builder, _Choice, chosen)),
            lambda which, is_float: each_unit(builder, count, lambda at, rest: activate(which, is_float, at, rest)),
        )
        return zero()

    return types.intp(level, *[types.intp] * 3, choice, types.float32, fields), generate


@functools.cache
def _task(level: int) -> TaskFunction:
    """Return the task for a level of :mod:`isa`."""

    def activation_task(task: int, arguments: Any, x: int, other: int, out: int, shared: int, scratch: int) -> int:
        """Do one part of the elements."""
        r = carray(arguments, (1,), _RECORD)[0]
        first, last = part_bounds(r.count, UNIT, task, r.parts)
        source, target, scale = x + 4 * first, out + r.itemsize * first, np.float32(r.scale)
        choice = _Choice(r.number, r.itemsize // 4)
        fields = ByteFields(r.zero_point, r.least, r.most, r.flip)
        return _activate(level, source, target, last - first, choice, scale, fields)

    return activation_task


def prepare_activation(
    name: str, count: int, threads: int, y: ByteTensor | None = None, tier: str | None = None
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
    y
        What the result is quantised to; None gives float32.
    tier
        The most specific one whose instructions may be used; see :func:`isa.supported_tiers`.

    Notes
    -----
    The relative error is below 5e-7, of results from 1e-37 on. NaN gives NaN, or the least byte.
    """
    parts = worthwhile_parts(count * _NANOSECONDS, threads)
    number = ACTIVATIONS.index(name)
    if y is None:
        record = (count, parts, 4, number, 1.0, 0, 0, 0, 0)
    else:
        record = (count, parts, 1, number, y.quantisation.scale, *byte_fields(y.quantisation, y.dtype))
    return Launch([Phase(_task(isa.level(tier)), np.array([record], _RECORD), parts)])
