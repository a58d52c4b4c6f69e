"""How calls of the SIMD kernels of the float32 2:4 family are prepared: work split over lanes and threads."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from sparse_rt_kernels.n2m4_f32.blocking.channel_lanes import group_bytes
from sparse_rt_kernels.n2m4_f32.blocking.panels import panel_bytes, row_panel_bytes
from sparse_rt_kernels.n2m4_f32.blocking.shares import split_call
from sparse_rt_kernels.n2m4_f32.task.share import CALL, SHARE, share_task, task_bytes
from sparse_rt_kernels.product.epilogue import FloatEpilogue, IntegerEpilogue
from sparse_rt_kernels.product.geometry import ConvGeometry, MatmulShape
from sparse_rt_kernels.product.indirection import Indirection, indirection_of
from sparse_rt_kernels.product.weight import PackedWeight, Panels
from sparse_rt_kernels.threads.launch import Launch, Phase

__all__ = ["float_epilogue", "prepare_conv_with", "prepare_matmul_with"]

Epilogue = FloatEpilogue | IntegerEpilogue

_indirection_of = functools.lru_cache(maxsize=1024)(indirection_of)
# A matmul gathers nothing.
_NO_INDIRECTION = indirection_of(ConvGeometry(1, 4, 1, 1, 4))


def float_epilogue(epilogue: Epilogue) -> FloatEpilogue:
    """Return `epilogue`, refusing one for integers."""
    if not isinstance(epilogue, FloatEpilogue):
        raise TypeError(f"f32 kernel: expected a FloatEpilogue, got {type(epilogue).__name__}.")
    return epilogue


def _launch(
    split: int,
    images: int,
    rows: int,
    strides: tuple[int, int, int],
    is_conv: int,
    indirection: Indirection,
    packed: PackedWeight[Panels],
    given: Epilogue,
    threads: int,
) -> Launch:
    """Prepare a call that makes rows [0, split) of each image lanes, and for the others channels.

    `strides` are the bytes from row to row of x, how many columns it has, and the bytes from row to row of out.
    """
    epilogue = float_epilogue(given)
    tiles, octets = packed.panels.values.shape[:2]
    nbytes = panel_bytes()
    blocks = (min(nbytes, row_panel_bytes()), min(nbytes, group_bytes()))
    shares = split_call(rows, split, images, tiles, octets, is_conv, blocks, threads)
    table = np.array(list(shares), SHARE)
    x_stride, columns, out_stride = strides
    record = (
        table.ctypes.data,
        *packed.addresses[:2],
        tiles,
        octets,
        x_stride,
        columns,
        out_stride,
        epilogue.address,
        packed.n,
        rows,
        is_conv,
        epilogue.low,
        epilogue.high,
        *indirection,
    )
    return Launch(
        [Phase(share_task, np.array([record], CALL), len(shares))],
        0,
        task_bytes(max(share.items for share in shares)),
        keep=(packed, epilogue, table),
        constants=(*packed.addresses, epilogue.address),
    )


def prepare_matmul_with(
    rows_as_lanes: Callable[[int], int],
) -> Callable[[MatmulShape, PackedWeight[Panels], Epilogue, int], Launch]:
    """Return the `prepare_matmul` of the kernel that makes the first ``rows_as_lanes(m)`` rows lanes."""

    def prepare_matmul(shape: MatmulShape, packed: PackedWeight[Panels], epilogue: Epilogue, threads: int) -> Launch:
        strides = (shape.x_stride, shape.columns, shape.out_stride)
        return _launch(rows_as_lanes(shape.m), 1, shape.m, strides, 0, _NO_INDIRECTION, packed, epilogue, threads)

    return prepare_matmul


def prepare_conv_with(
    rows_as_lanes: Callable[[int], int],
) -> Callable[[ConvGeometry, np.dtype[Any], np.dtype[Any], PackedWeight[Panels], Epilogue, int], Launch]:
    """Return the `prepare_conv` of the kernel that makes an image's first ``rows_as_lanes(pixels)`` pixels lanes."""

    def prepare_conv(
        geometry: ConvGeometry,
        x_dtype: np.dtype[Any],
        out_dtype: np.dtype[Any],
        packed: PackedWeight[Panels],
        epilogue: Epilogue,
        threads: int,
    ) -> Launch:
        pixels, indirection = geometry.out_height * geometry.out_width, _indirection_of(geometry)
        split = rows_as_lanes(pixels)
        return _launch(split, geometry.batch, pixels, (0, 0, 0), 1, indirection, packed, epilogue, threads)

    return prepare_conv
