"""The kernels of the float32 2:4 family, and the argument plumbing of the portable one."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_rt_kernels.n2m4_f32 import portable, weight
from sparse_rt_kernels.n2m4_f32.blocking import channel_lanes
from sparse_rt_kernels.n2m4_f32.blocking.panels import (
    CHANNELS,
    MAX_VECTORS,
    PORTABLE_VECTORS,
    REDUCTION,
    block_length,
    panel_bounds,
    panel_bytes,
    panel_count,
    rows_as_lanes,
    split_work,
)
from sparse_rt_kernels.n2m4_f32.simd_calls import SimdCalls
from sparse_rt_kernels.product.epilogue import FloatEpilogue, IntegerEpilogue
from sparse_rt_kernels.product.f32.call import float_epilogue
from sparse_rt_kernels.product.geometry import ConvGeometry
from sparse_rt_kernels.product.indirection import indirection_of
from sparse_rt_kernels.product.registry import Kernel, prepared_conv, prepared_matmul
from sparse_rt_kernels.product.weight import Indexed, PackedWeight, Panels
from sparse_rt_kernels.threads.pool import ThreadPool
from sparse_rt_kernels.threads.workspace import scratch
from sparse_rt_kernels.vectors.registers import LANES

__all__ = ["PORTABLE", "SIMD", "SIMD_CHANNEL_LANES", "SIMD_ROW_LANES"]

Array = NDArray[np.float32]
Epilogue = FloatEpilogue | IntegerEpilogue


def _portable_workspace(packed: PackedWeight[Panels], tiles: int) -> tuple[Array, Array, NDArray[np.int32]]:
    lanes = PORTABLE_VECTORS * LANES
    block = block_length(packed.panels.values.shape[1] * REDUCTION, PORTABLE_VECTORS, panel_bytes())
    floats = scratch("f32_n2m4", (block + tiles * CHANNELS) * lanes * 4).view(np.float32)
    panel = floats[: block * lanes].reshape(block, lanes)
    partial = floats[block * lanes : (block + tiles * CHANNELS) * lanes].reshape(tiles * CHANNELS, lanes)
    return panel, partial, scratch("f32_n2m4_lanes", 3 * lanes * 4)[: 3 * lanes * 4].view(np.int32).reshape(3, lanes)


def _unwritable(array: Array) -> Array:
    """Return a view that Numba sees as one type, whether or not the caller may write to the array."""
    view = array.view()
    view.flags.writeable = False
    return view


def _portable_epilogue(epilogue: FloatEpilogue) -> tuple[Array, float, float]:
    return _unwritable(epilogue.bias), float(epilogue.low), float(epilogue.high)


def _portable_matmul(x: Array, packed: PackedWeight[Panels], epilogue: Epilogue, out: Array, pool: ThreadPool) -> None:
    rows = x.shape[0]
    if rows == 0 or packed.n == 0:
        return
    finish = _portable_epilogue(float_epilogue(packed.kernel, epilogue))
    shares = split_work(panel_count(rows, PORTABLE_VECTORS), packed.panels.values.shape[0], pool.threads)
    x = _unwritable(x)

    def task(number: int) -> None:
        work = shares[number]
        panel, partial, _ = _portable_workspace(packed, work.last_tile - work.first_tile)
        for job in range(work.first_panel, work.last_panel):
            first, vectors = panel_bounds(rows, PORTABLE_VECTORS, job)
            span = (first, min(rows, first + vectors * LANES))
            tiles = (work.first_tile, work.last_tile)
            portable.matmul_block(
                x, packed.panels.values, packed.panels.indexes, finish, out, (panel, partial), span, tiles
            )

    pool.run(task, len(shares))


def _portable_conv(
    x: Array, geometry: ConvGeometry, packed: PackedWeight[Panels], epilogue: Epilogue, out: Array, pool: ThreadPool
) -> None:
    if out.size == 0:
        return
    finish = _portable_epilogue(float_epilogue(packed.kernel, epilogue))
    indirection = indirection_of(geometry)
    pixels = indirection.out_pixels
    panels = panel_count(pixels, PORTABLE_VECTORS)
    shares = split_work(geometry.batch * panels, packed.panels.values.shape[0], pool.threads)
    images = _unwritable(x).reshape(geometry.batch, geometry.channels, geometry.height * geometry.width)
    results = out.reshape(geometry.batch, packed.n, pixels)

    def task(number: int) -> None:
        work = shares[number]
        workspace = _portable_workspace(packed, work.last_tile - work.first_tile)
        tiles = (work.first_tile, work.last_tile)
        for job in range(work.first_panel, work.last_panel):
            image, panel = divmod(job, panels)
            first, vectors = panel_bounds(pixels, PORTABLE_VECTORS, panel)
            span = (first, min(pixels, first + vectors * LANES))
            weights = (packed.panels.values, packed.panels.indexes)
            portable.conv_block(images[image], indirection, *weights, finish, results[image], workspace, span, tiles)

    pool.run(task, len(shares))


# --- descriptors -----------------------------------------------------------------------------------------------------


#: See :class:`.registry.Kernel`.
_FEW_CHANNELS = 64
#: Rows below which channels are the lanes, so that nothing is transposed.
_LEAST_TRANSPOSED = 96


def _saved_cycles(m: int, n: int, k: int) -> float:
    """Return what a product saves against a dense engine.

    A dense engine takes 1/32 cycle an element of the product, this kernel 3/5 of that; but its lanes are rows, so that
    x and y are transposed: 1/4 cycle an element of x, 7/16 one of y. With few channels or a short reduction this is
    more than is saved; measured, 512 rows: n = 16 loses at every k, n = 64 up to k = 32.
    """
    transposed = 0.0 if m < _LEAST_TRANSPOSED else m * (7 / 16 * n + k / 4)
    return m * n * k / 80 - transposed


def _kernel(
    tier: str, shapes: tuple[tuple[int, int], ...], prepare_matmul: Any, prepare_conv: Any, adds_residual: bool
) -> Kernel:
    """Describe a kernel of one or several tile shapes (rows, channels)."""
    tiles = "_".join(f"{rows}x{channels}" for rows, channels in shapes)
    name = f"f32_n2m4_gemm_{tiles}__{tier}"

    def pack_weight(arrays: Indexed) -> PackedWeight[Panels]:
        return weight.pack(name, arrays)

    prepare = prepare_matmul, prepare_conv
    return Kernel(
        name,
        "f32",
        "n2m4",
        *shapes[0],
        tier,
        pack_weight,
        *prepare,
        adds_residual=adds_residual,
        few_channels=_FEW_CHANNELS,
        saved_cycles=_saved_cycles,
    )


_ROW_LANES = (MAX_VECTORS * LANES, CHANNELS)
_CHANNEL_LANES = (channel_lanes.MAX_ROWS, CHANNELS)


def _simd(shapes: tuple[tuple[int, int], ...], rows_as_lanes: Callable[[int], int]) -> Kernel:
    calls = SimdCalls(rows_as_lanes)
    return _kernel("avx512", shapes, calls.prepare_matmul, calls.prepare_conv, adds_residual=True)


#: Both shapes: in each call, as many rows become lanes as do not waste them, and the others meet lanes of channels.
SIMD = _simd((_ROW_LANES, _CHANNEL_LANES), rows_as_lanes)
SIMD_ROW_LANES = _simd((_ROW_LANES,), lambda rows: rows)
SIMD_CHANNEL_LANES = _simd((_CHANNEL_LANES,), lambda rows: 0)
PORTABLE = _kernel(
    "generic",
    ((PORTABLE_VECTORS * LANES, CHANNELS),),
    prepared_matmul(_portable_matmul),
    prepared_conv(_portable_conv),
    adds_residual=False,
)
