"""The task of the SIMD kernels of the float32 2:4 family: one share of a matrix product or a convolution."""

from typing import Any

import numpy as np

from sparse_rt_kernels.jit.compilation import kernel_jit
from sparse_rt_kernels.jit.compiler import carray
from sparse_rt_kernels.n2m4_f32.blocking.panels import MAX_VECTORS
from sparse_rt_kernels.n2m4_f32.blocking.shares import Share
from sparse_rt_kernels.n2m4_f32.task.channel_lanes import run_rows
from sparse_rt_kernels.n2m4_f32.task.panels import COPIES
from sparse_rt_kernels.n2m4_f32.task.row_lanes import run_panels
from sparse_rt_kernels.n2m4_f32.task.scratch import Scratch
from sparse_rt_kernels.product.f32.call import CALL, call_in, share_record
from sparse_rt_kernels.product.indirection import indirection_in
from sparse_rt_kernels.threads.workspace import as_pointer
from sparse_rt_kernels.vectors.registers import LANES

__all__ = ["SHARE", "share_task", "task_bytes"]

#: A :class:`..blocking.shares.Share`.
SHARE = share_record(Share._fields)
_SHARE_BYTES = SHARE.itemsize

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
    share, call, indirection = _share(a.shares + task * _SHARE_BYTES), call_in(a, x, other, out), indirection_in(a)
    copies = carray(as_pointer(scratch), (COPIES, 4), np.int64)
    lane_table = carray(as_pointer(scratch + 8 * _COPY_ITEMS), (_LANE_ITEMS,), np.int32)
    floats = carray(as_pointer(scratch + 8 * _COPY_ITEMS + 4 * _LANE_ITEMS), (share.items,), np.float32)
    memory = Scratch(floats, copies, lane_table)
    if share.has_channel_lanes:
        return run_rows(call, share, indirection, memory)
    return run_panels(call, share, indirection, memory)
