"""The float32 depthwise convolution, from planes to planes."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sparse_rt_kernels.between.depthwise.float_micro import multiply_floats
from sparse_rt_kernels.between.depthwise.layout import Layout
from sparse_rt_kernels.between.depthwise.moves import float_at
from sparse_rt_kernels.between.depthwise.operands import Block, Floats, TapTable
from sparse_rt_kernels.between.depthwise.staging import (
    FIELDS,
    begin_planes,
    flat_address,
    planes_in,
    planes_out,
    staged_address,
    staging_record,
)
from sparse_rt_kernels.between.depthwise.taps import tap_offsets, unrolled
from sparse_rt_kernels.jit.compilation import kernel_jit
from sparse_rt_kernels.jit.compiler import carray
from sparse_rt_kernels.product.epilogue import FloatEpilogue
from sparse_rt_kernels.product.geometry import ConvGeometry
from sparse_rt_kernels.threads.launch import Launch, Phase
from sparse_rt_kernels.threads.planes import plane_range, plane_tasks

__all__ = ["prepare_floats"]

_OWN: Final = ("planes", "tasks", "channels", "tap_rows", "down", "count", "offsets", "weights", "blocks", "bias")
_FLOAT: Final = np.dtype([*((name, "i8") for name in (*_OWN, *FIELDS)), ("low", "f8"), ("high", "f8")])


@kernel_jit
def _multiply(a: Any, channel: int, source: int, out: int) -> int:
    """Compute the flat outputs of one plane."""
    block = Block(source, a.blocks, out, a.flat_bytes)
    table = TapTable(a.count, a.offsets, a.weights + channel * a.count * 4)
    end = Floats(float_at(a.bias + channel * 4), np.float32(a.low), np.float32(a.high))
    if a.tap_rows == 3:
        if a.together == 1:
            return multiply_floats(3, 3, 1, 1, block, table, end)
        if a.down == 1:
            return multiply_floats(3, 3, 4, 1, block, table, end)
        return multiply_floats(3, 3, 4, 2, block, table, end)
    if a.tap_rows == 5:
        return multiply_floats(5, 5, 1, 1, block, table, end)
    return multiply_floats(0, 0, 1, 1, block, table, end)


def _float_task(task: int, arguments: Any, x: int, other: int, out: int, shared: int, scratch: int) -> int:
    """Convolve one task's planes."""
    a = carray(arguments, (1,), _FLOAT)[0]
    first, last = plane_range(task, a.tasks, a.planes)
    begin_planes(a, scratch)
    for begin in range(first, last, a.group):
        planes = min(a.group, last - begin)
        planes_in(a, x + begin * a.source_plane, planes, scratch)
        channel = begin % a.channels
        for slot in range(planes):
            _multiply(a, channel, staged_address(a, scratch, slot), flat_address(a, scratch, slot))
            channel = channel + 1 if channel + 1 < a.channels else 0
        planes_out(a, scratch, planes, out + begin * a.out_plane)
    return 0


def _together(geometry: ConvGeometry) -> int:
    """Return how many output rows to compute together: 4 if that leaves few lanes empty, else 1."""
    is_3x3 = geometry.kernel == (3, 3) and geometry.dilations[0] == 1 and geometry.strides[0] <= 2
    return 4 if is_3x3 and geometry.out_height >= 12 else 1


def _nanoseconds(layout: Layout, taps: int) -> float:
    """Return about how long a plane takes, at 4 GHz: a block's FMAs, and what rows cost."""
    g = layout.geometry
    return (layout.together * layout.blocks * (4 * taps + 12) + 20 * (g.height + g.out_height)) / 4


def prepare_floats(
    geometry: ConvGeometry, weight: NDArray[np.float32], epilogue: FloatEpilogue, threads: int
) -> Launch:
    """See :func:`sparse_rt_kernels.between.depthwise.prepare_depthwise`."""
    layout = Layout(geometry, _together(geometry), geometry.strides[1] > 1)
    offsets, weights = tap_offsets(layout, 1, 4), np.array(weight, np.float32, order="C")
    taps = unrolled("float", *geometry.kernel, layout.together, geometry.strides[0])
    staging, scratch_bytes = staging_record(layout, 4, 4, 0, 0)
    planes, count = geometry.batch * geometry.channels, geometry.kernel[0] * geometry.kernel[1]
    tasks = plane_tasks(planes, _nanoseconds(layout, count), threads)
    record = (
        *(planes, tasks, geometry.channels, taps.rows, taps.down, count),
        *(offsets.ctypes.data, weights.ctypes.data, layout.blocks, epilogue.bias.ctypes.data),
        *staging,
        *(epilogue.low, epilogue.high),
    )
    phase = Phase(_float_task, np.array([record], _FLOAT), tasks)
    return Launch([phase], 0, scratch_bytes, keep=(offsets, weights, epilogue))
