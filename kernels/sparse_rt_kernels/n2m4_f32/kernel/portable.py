"""The portable kernel of the float32 2:4 family."""

import numpy as np

from sparse_rt_kernels.n2m4_f32.blocking.panels import (
    CHANNELS,
    PORTABLE_VECTORS,
    REDUCTION,
    block_length,
    panel_bytes,
    panel_count,
    split_work,
)
from sparse_rt_kernels.n2m4_f32.kernel.descriptor import describe
from sparse_rt_kernels.n2m4_f32.task.portable import SHARE, Share, portable_task, task_bytes
from sparse_rt_kernels.product.epilogue import FloatEpilogue
from sparse_rt_kernels.product.f32.call import FloatCalls, Rows, prepare
from sparse_rt_kernels.product.weight import PackedWeight, Panels
from sparse_rt_kernels.threads.launch import Launch
from sparse_rt_kernels.vectors.registers import LANES

__all__ = ["PORTABLE"]


class _Calls(FloatCalls):
    def prepare_rows(self, rows: Rows, packed: PackedWeight[Panels], epilogue: FloatEpilogue, threads: int) -> Launch:
        tiles, octets = packed.panels.values.shape[:2]
        block = block_length(octets * REDUCTION, PORTABLE_VECTORS, panel_bytes())
        works = split_work(rows.images * panel_count(rows.rows, PORTABLE_VECTORS), tiles, threads)
        shares = np.array([Share(*work, block) for work in works], SHARE)
        most = max(work.last_tile - work.first_tile for work in works)
        return prepare(portable_task, shares, rows, packed, epilogue, task_bytes(block, most))


PORTABLE = describe("generic", ((PORTABLE_VECTORS * LANES, CHANNELS),), _Calls(), adds_residual=False)
