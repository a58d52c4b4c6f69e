"""Bytes to float32: DequantizeLinear with one scale."""

from functools import partial
from typing import Any

import numpy as np

from sparse_rt_kernels.jit.compiler import carray, types
from sparse_rt_kernels.jit.llvm import I64
from sparse_rt_kernels.threads.launch import Launch, Phase
from sparse_rt_kernels.threads.parts import part_bounds, worthwhile_parts
from sparse_rt_kernels.vectors import lanes, simd
from sparse_rt_kernels.vectors.loops import UNIT, each_choice, each_unit, zero
from sparse_rt_kernels.vectors.quantisation import Quantisation, is_signed
from sparse_rt_kernels.vectors.registers import LANES

__all__ = ["prepare_dequantise"]

_RECORD = np.dtype([*((name, "i8") for name in ("count", "parts", "signed")), ("scale", "f8"), ("zero_point", "f8")])
#: Of one element on one core, into the last cache.
_NANOSECONDS = 0.05


@simd.emitter
def _dequantise_range(context: Any, x: Any, y: Any, count: Any, signed: Any, scale: Any, zero_point: Any) -> Any:
    """``y = (x - zero_point) * scale`` of `count` bytes at x; `signed` is 0 or 1, the last two are float32."""

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        x, y, count, signed, *floats = given
        scale, zero_point = (lanes.broadcast_float(builder, value) for value in floats)

        def dequantise(is_signed: int, at: Any, rest: Any) -> None:
            source, out = builder.add(x, at), builder.add(y, builder.mul(at, I64(4)))
            for first in range(0, UNIT, LANES):
                # The difference of two bytes is exact, so one rounding is left: that of the product.
                value = lanes.load_bytes(builder, source, first, is_signed, rest)
                value = simd.fmultiply(builder, simd.fsubtract(builder, value, zero_point), scale)
                lanes.store_floats(builder, out, first, value, rest)

        each_choice(builder, [signed], lambda sign: each_unit(builder, count, partial(dequantise, sign)))
        return zero()

    return types.intp(*[types.intp] * 4, types.float32, types.float32), generate


def _dequantise_task(task: int, arguments: Any, x: int, other: int, out: int, shared: int, scratch: int) -> int:
    """Dequantise one part of the elements."""
    r = carray(arguments, (1,), _RECORD)[0]
    first, last = part_bounds(r.count, UNIT, task, r.parts)
    scale, zero_point = np.float32(r.scale), np.float32(r.zero_point)
    return _dequantise_range(x + first, out + 4 * first, last - first, r.signed, scale, zero_point)


def prepare_dequantise(count: int, x_dtype: np.dtype[Any], x: Quantisation, threads: int) -> Launch:
    """Prepare ``y = (x - zero_point) * scale``: ``launch.run(x, y, pool)``.

    `x` holds `count` bytes, `y` as many float32, both C-contiguous. Equal to onnxruntime's to the bit.
    """
    parts = worthwhile_parts(count * _NANOSECONDS, threads)
    record = (count, parts, is_signed(x_dtype), x.scale, x.zero_point)
    return Launch([Phase(_dequantise_task, np.array([record], _RECORD), parts)])
