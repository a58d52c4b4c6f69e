"""The task of the SIMD kernels of the float32 2:4 family: one share of a matrix product or a convolution."""

from typing import Any

import numpy as np

from sparse_rt_kernels.jit.compilation import kernel_jit
from sparse_rt_kernels.jit.compiler import carray
from sparse_rt_kernels.n2m4_f32.blocking.panels import CHANNELS, MAX_VECTORS
from sparse_rt_kernels.n2m4_f32.blocking.shares import Share
from sparse_rt_kernels.n2m4_f32.task.call import Call, Scratch, Weight
from sparse_rt_kernels.n2m4_f32.task.channel_lanes import run_rows
from sparse_rt_kernels.n2m4_f32.task.panels import COPIES
from sparse_rt_kernels.n2m4_f32.task.row_lanes import run_panels
from sparse_rt_kernels.product.indirection import Indirection
from sparse_rt_kernels.threads.workspace import as_pointer
from sparse_rt_kernels.vectors.registers import LANES

__all__ = ["CALL", "SHARE", "share_task", "task_bytes"]

#: A :class:`.shares.Share`.
SHARE = np.dtype([(name, "i8") for name in Share._fields])
_SHARE_BYTES = SHARE.itemsize
#: A call: see :class:`.call.Call`. `shares` is the address of one :data:`SHARE` for each task; the weight has
#: `tiles` tiles of 4 channels and `octets` steps of 8 elements.
CALL = np.dtype(
    [
        *((name, "i8") for name in ("shares", "values", "index", "tiles", "octets")),
        *((name, "i8") for name in ("x_stride", "columns", "out_stride", "bias", "n")),
        *((name, "i8") for name in ("lanes", "is_conv")),
        ("low", "f8"),
        ("high", "f8"),
        *((name, "i8") for name in Indirection._fields),
    ]
)

_COPY_ITEMS = 4 * COPIES
_LANE_ITEMS = 3 * MAX_VECTORS * LANES


def task_bytes(items: int) -> int:
    """Return the scratch bytes of a task that needs `items` floats."""
    return 8 * _COPY_ITEMS + 4 * _LANE_ITEMS + 4 * items


@kernel_jit
def _share(address: int) -> Share:
    s = carray(as_pointer(address), (1,), SHARE)[0]
    work = (s.first_panel, s.last_panel, s.first_tile, s.last_tile)
    return Share(s.has_channel_lanes, s.first_lane, s.last_lane, s.rest, *work, s.panel_bytes, s.items)


def share_task(task: int, arguments: Any, x: int, other: int, out: int, shared: int, scratch: int) -> int:
    """Compute one share of ``out = clip(X W^T + bias + other)``; return 0. `other` at address 0 is not there."""
    a = carray(arguments, (1,), CALL)[0]
    share = _share(a.shares + task * _SHARE_BYTES)
    values = carray(as_pointer(a.values), (a.tiles, a.octets, 4, CHANNELS), np.float32)
    index = carray(as_pointer(a.index), (a.tiles, a.octets, CHANNELS), np.uint8)
    copies = carray(as_pointer(scratch), (COPIES, 4), np.int64)
    lane_table = carray(as_pointer(scratch + 8 * _COPY_ITEMS), (_LANE_ITEMS,), np.int32)
    floats = carray(as_pointer(scratch + 8 * _COPY_ITEMS + 4 * _LANE_ITEMS), (share.items,), np.float32)
    bounds = np.float32(a.low), np.float32(a.high)
    call = Call(x, a.x_stride, a.columns, out, a.out_stride, other, a.bias, *bounds, a.n, a.octets, a.lanes, a.is_conv)
    indirection = Indirection(
        a.channels,
        a.height,
        a.width,
        a.kernel_rows,
        a.kernel_columns,
        a.row_stride,
        a.column_stride,
        a.row_dilation,
        a.column_dilation,
        a.top,
        a.left,
        a.row_stuffing,
        a.column_stuffing,
        a.out_pixels,
        a.out_width,
    )
    weight, memory = Weight(values, index), Scratch(floats, copies, lane_table)
    if share.has_channel_lanes:
        return run_rows(call, share, indirection, weight, memory)
    return run_panels(call, share, indirection, weight, memory)
