"""How calls of the portable kernel of the float32 2:4 family are prepared."""

from typing import Any

import numpy as np

from sparse_rt_kernels.n2m4_f32.blocking.panels import (
    PORTABLE_VECTORS,
    REDUCTION,
    block_length,
    panel_bytes,
    panel_count,
    split_work,
)
from sparse_rt_kernels.n2m4_f32.task.portable import SHARE, Share, portable_task, task_bytes
from sparse_rt_kernels.product.epilogue import FloatEpilogue, IntegerEpilogue
from sparse_rt_kernels.product.f32.call import Rows, float_epilogue, prepare
from sparse_rt_kernels.product.geometry import ConvGeometry, MatmulShape
from sparse_rt_kernels.product.weight import PackedWeight, Panels
from sparse_rt_kernels.threads.launch import Launch

__all__ = ["prepare_conv", "prepare_matmul"]


def _prepare(rows: Rows, packed: PackedWeight[Panels], given: FloatEpilogue | IntegerEpilogue, threads: int) -> Launch:
    epilogue = float_epilogue(packed.kernel, given)
    tiles, octets = packed.panels.values.shape[:2]
    block = block_length(octets * REDUCTION, PORTABLE_VECTORS, panel_bytes())
    works = split_work(rows.images * panel_count(rows.rows, PORTABLE_VECTORS), tiles, threads)
    shares = np.array([Share(*work, block) for work in works], SHARE)
    most = max(work.last_tile - work.first_tile for work in works)
    return prepare(portable_task, shares, rows, packed, epilogue, task_bytes(block, most))


def prepare_matmul(
    shape: MatmulShape, packed: PackedWeight[Panels], epilogue: FloatEpilogue | IntegerEpilogue, threads: int
) -> Launch:
    """Prepare ``out = clip(x @ w.T + bias)``; see :class:`sparse_rt_kernels.product.registry.Kernel`."""
    return _prepare(Rows.of_matrix(shape), packed, epilogue, threads)


def prepare_conv(
    geometry: ConvGeometry,
    x_dtype: np.dtype[Any],
    out_dtype: np.dtype[Any],
    packed: PackedWeight[Panels],
    epilogue: FloatEpilogue | IntegerEpilogue,
    threads: int,
) -> Launch:
    """Prepare ``out = clip(conv(x, w) + bias)``; see :class:`sparse_rt_kernels.product.registry.Kernel`."""
    return _prepare(Rows.of_images(geometry), packed, epilogue, threads)
