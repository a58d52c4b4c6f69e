"""The int8 depthwise convolution, from planes to planes."""

import functools
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sparse_rt_kernels.between.depthwise.finish import kind_of
from sparse_rt_kernels.between.depthwise.integer_micro import multiply_bytes
from sparse_rt_kernels.between.depthwise.layout import Layout
from sparse_rt_kernels.between.depthwise.moves import float_at, word_at
from sparse_rt_kernels.between.depthwise.operands import Block, Bytes, TapTable
from sparse_rt_kernels.between.depthwise.staging import (
    FIELDS,
    begin_planes,
    flat_address,
    planes_in,
    planes_out,
    staged_address,
    staging_record,
)
from sparse_rt_kernels.between.depthwise.taps import tap_offsets, unrolled, words_of_taps
from sparse_rt_kernels.jit.compilation import TaskFunction, kernel_jit
from sparse_rt_kernels.jit.compiler import carray
from sparse_rt_kernels.product.epilogue import IntegerEpilogue
from sparse_rt_kernels.product.geometry import ConvGeometry
from sparse_rt_kernels.product.u8s8.clipping import clip_bounds
from sparse_rt_kernels.threads.launch import Launch, Phase
from sparse_rt_kernels.threads.planes import plane_range, plane_tasks

__all__ = ["prepare_integer"]

_OWN: Final = (
    *("planes", "tasks", "channels", "tap_rows", "step", "count", "offsets", "weights", "blocks"),
    *("kind", "out_itemsize", "offset", "scale", "bias", "zero_point"),
)
_INTEGER: Final = np.dtype([*((name, "i8") for name in (*_OWN, *FIELDS)), ("low", "f8"), ("high", "f8")])


@kernel_jit
def _multiply(level: int, a: Any, channel: int, source: int, out: int) -> int:
    """Compute the flat outputs of one plane; `level` is a literal, that of :mod:`isa`."""
    at = channel * 4
    block = Block(source, a.blocks, out, a.out_itemsize)
    table = TapTable(a.count, a.offsets, a.weights + a.count * at)
    offset, scale, bias = word_at(a.offset + at), float_at(a.scale + at), float_at(a.bias + at)
    end = Bytes(a.kind, offset, scale, bias, np.float32(a.low), np.float32(a.high), a.zero_point)
    if a.step == 1:
        if a.tap_rows == 3:
            return multiply_bytes(3, 1, 1, level, block, table, end)
        if a.tap_rows == 5:
            return multiply_bytes(5, 2, 1, level, block, table, end)
        return multiply_bytes(0, 0, 1, level, block, table, end)
    if a.tap_rows == 3:
        return multiply_bytes(3, 1, 2, level, block, table, end)
    if a.tap_rows == 5:
        return multiply_bytes(5, 2, 2, level, block, table, end)
    return multiply_bytes(0, 0, 2, level, block, table, end)


@functools.cache
def _task(level: int) -> TaskFunction:
    """Return the task for a level of :mod:`isa`."""

    def integer_task(task: int, arguments: Any, x: int, other: int, out: int, shared: int, scratch: int) -> int:
        """Convolve one task's planes."""
        a = carray(arguments, (1,), _INTEGER)[0]
        first, last = plane_range(task, a.tasks, a.planes)
        begin_planes(a, scratch)
        for begin in range(first, last, a.group):
            planes = min(a.group, last - begin)
            planes_in(a, x + begin * a.source_plane, planes, scratch)
            channel = begin % a.channels
            for slot in range(planes):
                _multiply(level, a, channel, staged_address(a, scratch, slot), flat_address(a, scratch, slot))
                channel = channel + 1 if channel + 1 < a.channels else 0
            planes_out(a, scratch, planes, out + begin * a.out_plane)
        return 0

    return integer_task


def _nanoseconds(layout: Layout, taps: int) -> float:
    """Return about how long a plane takes, at 4 GHz: a block's dots and epilogue, and what rows cost."""
    g = layout.geometry
    return (layout.together * layout.blocks * (4 * taps + 12) + 10 * (g.height + g.out_height)) / 4


def prepare_integer(
    geometry: ConvGeometry,
    x_dtype: np.dtype[Any],
    out_dtype: np.dtype[Any],
    weight: NDArray[np.int8],
    epilogue: IntegerEpilogue,
    threads: int,
    level: int,
) -> Launch:
    """See :func:`sparse_rt_kernels.between.depthwise.prepare_depthwise`; `level` is that of :mod:`isa`."""
    layout = Layout(geometry, 1, geometry.strides[1] > 2)
    # 4 taps make one operand where the columns that they read are neighbours.
    width = 4 if geometry.dilations[1] == 1 and not layout.is_separated else 1
    offsets, words = tap_offsets(layout, width, 1), words_of_taps(weight, width)
    taps = unrolled("integer", geometry.kernel[0], -(-geometry.kernel[1] // width), 1, geometry.strides[0])
    flip = 128 if x_dtype.char == "b" else 0
    offset = epilogue.offset - np.int32(flip) * weight.sum(axis=(1, 2), dtype=np.int32)
    pad = int.from_bytes(bytes([(geometry.pad_value & 255) ^ flip]) * 4, "little", signed=True)
    staging, scratch_bytes = staging_record(layout, 1, out_dtype.itemsize, pad, flip)
    low, high = clip_bounds(epilogue, out_dtype)
    planes = geometry.batch * geometry.channels
    tasks = plane_tasks(planes, _nanoseconds(layout, words.shape[1]), threads)
    record = (
        *(planes, tasks, geometry.channels, taps.rows, layout.step, words.shape[1]),
        *(offsets.ctypes.data, words.ctypes.data, layout.blocks, kind_of(out_dtype, epilogue), out_dtype.itemsize),
        *(offset.ctypes.data, *epilogue.addresses[1:], epilogue.zero_point),
        *staging,
        *(low, high),
    )
    phase = Phase(_task(level), np.array([record], _INTEGER), tasks)
    return Launch([phase], 0, scratch_bytes, keep=(offsets, words, offset, epilogue))
