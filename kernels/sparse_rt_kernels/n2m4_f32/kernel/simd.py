"""The AVX-512 kernels of the float32 2:4 family: rows split over two shapes, work over threads."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sparse_rt_kernels.n2m4_f32.blocking.channel_lanes import MAX_ROWS, group_bytes
from sparse_rt_kernels.n2m4_f32.blocking.panels import (
    CHANNELS,
    MAX_VECTORS,
    panel_bytes,
    row_panel_bytes,
    rows_as_lanes,
)
from sparse_rt_kernels.n2m4_f32.blocking.shares import split_call
from sparse_rt_kernels.n2m4_f32.kernel.descriptor import describe
from sparse_rt_kernels.n2m4_f32.task.share import SHARE, share_task, task_bytes
from sparse_rt_kernels.product.epilogue import FloatEpilogue
from sparse_rt_kernels.product.f32.call import FloatCalls, Rows, prepare
from sparse_rt_kernels.product.weight import PackedWeight, Panels
from sparse_rt_kernels.threads.launch import Launch
from sparse_rt_kernels.vectors.registers import LANES

__all__ = ["SIMD", "SIMD_CHANNEL_LANES", "SIMD_ROW_LANES"]


@dataclass(frozen=True)
class _Calls(FloatCalls):
    """Calls of a kernel that makes the first ``rows_as_lanes(m)`` rows lanes, and for the others channels."""

    rows_as_lanes: Callable[[int], int]

    def prepare_rows(self, rows: Rows, packed: PackedWeight[Panels], epilogue: FloatEpilogue, threads: int) -> Launch:
        tiles, octets = packed.panels.values.shape[:2]
        nbytes = panel_bytes()
        blocks = (min(nbytes, row_panel_bytes()), min(nbytes, group_bytes()))
        split = self.rows_as_lanes(rows.rows)
        shares = split_call(rows.rows, split, rows.images, tiles, octets, rows.is_conv, blocks, threads)
        scratch_bytes = task_bytes(max(share.items for share in shares))
        return prepare(share_task, np.array(list(shares), SHARE), rows, packed, epilogue, scratch_bytes)


_ROW_LANES = (MAX_VECTORS * LANES, CHANNELS)
_CHANNEL_LANES = (MAX_ROWS, CHANNELS)

#: Both shapes: in each call, as many rows become lanes as do not waste them, and the others meet lanes of channels.
SIMD = describe("avx512", (_ROW_LANES, _CHANNEL_LANES), _Calls(rows_as_lanes), adds_residual=True)
SIMD_ROW_LANES = describe("avx512", (_ROW_LANES,), _Calls(lambda rows: rows), adds_residual=True)
SIMD_CHANNEL_LANES = describe("avx512", (_CHANNEL_LANES,), _Calls(lambda rows: 0), adds_residual=True)
