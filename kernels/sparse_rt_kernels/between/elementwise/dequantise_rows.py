"""Bytes to float32 with a bias for each column: DequantizeLinear and the Add after a quantised matrix product."""

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_rt_kernels.jit.compiler import carray, types
from sparse_rt_kernels.jit.llvm import I64
from sparse_rt_kernels.threads.launch import Launch, Phase
from sparse_rt_kernels.threads.parts import part_bounds, worthwhile_parts
from sparse_rt_kernels.vectors import lanes, simd
from sparse_rt_kernels.vectors.loops import each_choice, each_unit, zero
from sparse_rt_kernels.vectors.quantisation import Quantisation, is_signed
from sparse_rt_kernels.vectors.registers import LANES

__all__ = ["prepare_dequantise_rows"]

_RECORD = np.dtype(
    [
        *((name, "i8") for name in ("rows", "parts", "columns", "bias", "signed")),
        ("scale", "f8"),
        ("zero_point", "f8"),
    ]
)
#: Of one element on one core, into the last cache.
_NANOSECONDS = 0.05


@simd.emitter
def _dequantise_row(
    context: Any, x: Any, bias: Any, y: Any, count: Any, signed: Any, scale: Any, zero_point: Any
) -> Any:
    """``y = (x - zero_point) * scale + bias`` of `count` bytes at x; `signed` is 0 or 1, the last two are float32."""

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        x, bias, y, count, signed, *floats = given
        scale, zero_point = (lanes.broadcast_float(builder, value) for value in floats)

        def dequantise(is_signed: int, at: Any, rest: Any) -> None:
            floats_at = builder.mul(at, I64(4))
            source, biases, out = builder.add(x, at), builder.add(bias, floats_at), builder.add(y, floats_at)
            for first in range(0, 64, LANES):
                value = lanes.load_bytes(builder, source, first, is_signed, rest)
                # Product and sum are rounded one after the other, as separate operators do.
                value = simd.fmultiply(builder, simd.fsubtract(builder, value, zero_point), scale)
                value = simd.fadd(builder, value, lanes.load_floats(builder, biases, first, rest))
                lanes.store_floats(builder, out, first, value, rest)

        each_choice(builder, [signed], lambda sign: each_unit(builder, count, partial(dequantise, sign)))
        return zero()

    return types.intp(*[types.intp] * 5, types.float32, types.float32), generate


def _dequantise_task(task: int, arguments: Any, x: int, other: int, out: int, shared: int, scratch: int) -> int:
    """Dequantise one part of the rows."""
    r = carray(arguments, (1,), _RECORD)[0]
    first, last = part_bounds(r.rows, 1, task, r.parts)
    scale, zero_point = np.float32(r.scale), np.float32(r.zero_point)
    for row in range(first, last):
        at = row * r.columns
        _dequantise_row(x + at, r.bias, out + 4 * at, r.columns, r.signed, scale, zero_point)
    return 0


def prepare_dequantise_rows(
    rows: int, x_dtype: np.dtype[Any], x: Quantisation, bias: NDArray[np.float32], threads: int
) -> Launch:
    """Prepare ``y[r, c] = (x[r, c] - zero_point) * scale + bias[c]``: ``launch.run(x, y, pool)``.

    `x` holds (rows, columns) bytes, `y` as many float32, both C-contiguous; `bias` is (columns,) and copied. Equal to
    onnxruntime's DequantizeLinear and Add to the bit.
    """
    biases = np.array(bias, np.float32)
    parts = min(rows, worthwhile_parts(rows * biases.size * _NANOSECONDS, threads))
    record = (rows, parts, biases.size, biases.ctypes.data, is_signed(x_dtype), x.scale, x.zero_point)
    return Launch([Phase(_dequantise_task, np.array([record], _RECORD), parts)], keep=(biases,))
