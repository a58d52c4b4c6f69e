"""How calls of the SIMD kernels of the float32 2:4 family are prepared: work split over lanes and threads."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from sparse_rt_kernels.n2m4_f32.blocking.channel_lanes import group_bytes
from sparse_rt_kernels.n2m4_f32.blocking.panels import panel_bytes, row_panel_bytes
from sparse_rt_kernels.n2m4_f32.blocking.shares import split_call
from sparse_rt_kernels.n2m4_f32.task.share import SHARE, share_task, task_bytes
from sparse_rt_kernels.product.epilogue import FloatEpilogue, IntegerEpilogue
from sparse_rt_kernels.product.f32.call import Rows, float_epilogue, prepare
from sparse_rt_kernels.product.geometry import ConvGeometry, MatmulShape
from sparse_rt_kernels.product.weight import PackedWeight, Panels
from sparse_rt_kernels.threads.launch import Launch

__all__ = ["SimdCalls"]

Epilogue = FloatEpilogue | IntegerEpilogue


@dataclass(frozen=True)
class SimdCalls:
    """The preparation of a kernel that makes the first ``rows_as_lanes(m)`` rows lanes, and for the others channels."""

    rows_as_lanes: Callable[[int], int]

    def prepare_matmul(
        self, shape: MatmulShape, packed: PackedWeight[Panels], epilogue: Epilogue, threads: int
    ) -> Launch:
        """Prepare a matrix product."""
        return self._prepare(Rows.of_matrix(shape), packed, epilogue, threads)

    def prepare_conv(
        self,
        geometry: ConvGeometry,
        x_dtype: np.dtype[Any],
        out_dtype: np.dtype[Any],
        packed: PackedWeight[Panels],
        epilogue: Epilogue,
        threads: int,
    ) -> Launch:
        """Prepare a convolution: its rows are an image's pixels."""
        return self._prepare(Rows.of_images(geometry), packed, epilogue, threads)

    def _prepare(self, rows: Rows, packed: PackedWeight[Panels], epilogue: Epilogue, threads: int) -> Launch:
        floats = float_epilogue(packed.kernel, epilogue)
        tiles, octets = packed.panels.values.shape[:2]
        nbytes = panel_bytes()
        blocks = (min(nbytes, row_panel_bytes()), min(nbytes, group_bytes()))
        split = self.rows_as_lanes(rows.rows)
        shares = split_call(rows.rows, split, rows.images, tiles, octets, rows.is_conv, blocks, threads)
        scratch_bytes = task_bytes(max(share.items for share in shares))
        return prepare(share_task, np.array(list(shares), SHARE), rows, packed, floats, scratch_bytes)
