"""The task of the SIMD kernels of the float32 2:4 family: one share of a matrix product or a convolution."""

from typing import Any

import numpy as np

from sparse_rt_kernels.jit.compiler import carray
from sparse_rt_kernels.n2m4_f32.blocking import CHANNELS, MAX_VECTORS, Work
from sparse_rt_kernels.n2m4_f32.task.call import Call
from sparse_rt_kernels.n2m4_f32.task.channel_lanes import run_rows
from sparse_rt_kernels.n2m4_f32.task.panels import COPIES
from sparse_rt_kernels.n2m4_f32.task.row_lanes import run_panels
from sparse_rt_kernels.product.indirection import Indirection
from sparse_rt_kernels.threads.workspace import as_pointer
from sparse_rt_kernels.vectors.registers import LANES

__all__ = ["CALL", "SHARE", "share_task", "task_bytes"]

#: Fields of :class:`.shares.Share`, beside the scratch that it needs.
SHARE = np.dtype(
    [
        (name, "i8")
        for name in (
            *("channel_lanes", "first_lane", "last_lane", "rest"),
            *("first_panel", "last_panel", "first_tile", "last_tile"),
            *("panel_bytes", "items"),
        )
    ]
)
_SHARE_BYTES = SHARE.itemsize
#: A call: see :func:`.row_lanes.run_panels`. `shares` is the address of one :data:`SHARE` for each task; the weight has
#: `tiles` tiles of 4 channels and `octets` steps of 8 elements.
CALL = np.dtype(
    [
        *((name, "i8") for name in ("shares", "values", "index", "tiles", "octets")),
        *((name, "i8") for name in ("x_stride", "columns", "out_stride", "bias", "n")),
        *((name, "i8") for name in ("images", "lanes", "is_conv")),
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


def share_task(task: int, arguments: Any, x: int, other: int, out: int, shared: int, scratch: int) -> int:
    """Compute one share of ``out = clip(X W^T + bias + other)``; return 0. `other` at address 0 is not there."""
    a = carray(arguments, (1,), CALL)[0]
    share = carray(as_pointer(a.shares + task * _SHARE_BYTES), (1,), SHARE)[0]
    values = carray(as_pointer(a.values), (a.tiles, a.octets, 4, CHANNELS), np.float32)
    index = carray(as_pointer(a.index), (a.tiles, a.octets, CHANNELS), np.uint8)
    copies = carray(as_pointer(scratch), (COPIES, 4), np.int64)
    lane_table = carray(as_pointer(scratch + 8 * _COPY_ITEMS), (_LANE_ITEMS,), np.int32)
    floats = carray(as_pointer(scratch + 8 * _COPY_ITEMS + 4 * _LANE_ITEMS), (share.items,), np.float32)
    call = Call(
        x,
        a.x_stride,
        a.columns,
        out,
        a.out_stride,
        a.bias,
        a.n,
        a.octets,
        a.images,
        a.lanes,
        share.first_lane,
        share.last_lane,
        share.panel_bytes,
        a.is_conv,
        other,
        share.rest,
    )
    work = Work(share.first_panel, share.last_panel, share.first_tile, share.last_tile)
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
    clip = (np.float32(a.low), np.float32(a.high))
    if share.channel_lanes:
        return run_rows(call, work, indirection, clip, values, index, floats, copies, lane_table)
    return run_panels(call, work, indirection, clip, values, index, floats, copies, lane_table)
