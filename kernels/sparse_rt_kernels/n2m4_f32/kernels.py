"""The two kernels of the float32 2:4 family: argument plumbing, and the split of the work over threads."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_rt_kernels.epilogue import FloatEpilogue, IntegerEpilogue
from sparse_rt_kernels.gather import gather_of
from sparse_rt_kernels.geometry import ConvGeometry
from sparse_rt_kernels.n2m4_f32 import macro, portable, weight
from sparse_rt_kernels.n2m4_f32.tiling import (
    CHANNELS,
    LANES,
    MAX_VECTORS,
    PORTABLE_VECTORS,
    REDUCTION,
    block_length,
    panel_bounds,
    panel_bytes,
    panel_count,
)
from sparse_rt_kernels.parallel import ThreadPool
from sparse_rt_kernels.registry import Kernel, PackedWeight
from sparse_rt_kernels.workspace import address_of, scratch

__all__ = ["PORTABLE", "SIMD", "split_work"]

Array = NDArray[np.float32]
Epilogue = FloatEpilogue | IntegerEpilogue

# A matmul gathers nothing.
_NO_GATHER = gather_of(ConvGeometry(1, 4, 1, 1, 4))


def _float(epilogue: Epilogue) -> FloatEpilogue:
    if not isinstance(epilogue, FloatEpilogue):
        raise TypeError(f"f32 kernel: expected a FloatEpilogue, got {type(epilogue).__name__}.")
    return epilogue


def split_work(panels: int, tiles: int, threads: int) -> list[macro.Work]:
    """Split panels over threads if there are enough of them, else channel tiles too, in strips of 16 channels."""
    if threads == 1 or panels * tiles <= 1:
        return [macro.Work(0, panels, 0, tiles)]
    strips = -(-tiles // (LANES // CHANNELS))
    if panels >= 2 * threads:
        # A few more shares than threads even out what other programs take.
        count = min(panels, 4 * threads)
        bounds = [panels * i // count for i in range(count + 1)]
        return [macro.Work(bounds[i], bounds[i + 1], 0, tiles) for i in range(count)]
    count = min(strips, threads if panels == 1 else 2 * threads // panels + 1)
    bounds = [min(tiles, strips * i // count * (LANES // CHANNELS)) for i in range(count + 1)]
    return [macro.Work(p, p + 1, bounds[i], bounds[i + 1]) for p in range(panels) for i in range(count)]


# --- SIMD ------------------------------------------------------------------------------------------------------------


def _run_simd(call: macro.Call, gather: Any, packed: PackedWeight, epilogue: FloatEpilogue, pool: ThreadPool) -> None:
    clip = (np.float32(epilogue.low), np.float32(epilogue.high))
    panels = call.images * panel_count(call.lanes, MAX_VECTORS)
    shares = split_work(panels, packed.values.shape[0], pool.threads)

    def task(number: int) -> None:
        work = shares[number]
        items = macro.float_scratch(call, work.last_tile - work.first_tile)
        floats = scratch("f32_n2m4", items * 4).view(np.float32)
        copies = scratch("f32_n2m4_copies", macro.COPIES * 4 * 8).view(np.int64).reshape(-1, 4)
        lanes = scratch("f32_n2m4_lanes", 3 * MAX_VECTORS * LANES * 4).view(np.int32)
        macro.run_panels(call, gather, work, packed.values, packed.index, clip, floats, copies, lanes)

    pool.run(task, len(shares))


def _simd_matmul(x: Array, packed: PackedWeight, epilogue: Epilogue, out: Array, pool: ThreadPool) -> None:
    rows, columns = x.shape
    if rows == 0 or packed.n == 0:
        return
    floats = _float(epilogue)
    call = macro.Call(
        address_of(x),
        x.strides[0],
        columns,
        address_of(out),
        out.strides[0],
        address_of(floats.bias),
        packed.n,
        packed.values.shape[1],
        1,
        rows,
        panel_bytes(),
        0,
    )
    _run_simd(call, _NO_GATHER, packed, floats, pool)


def _simd_conv(
    x: Array, geometry: ConvGeometry, packed: PackedWeight, epilogue: Epilogue, out: Array, pool: ThreadPool
) -> None:
    if out.size == 0:
        return
    floats = _float(epilogue)
    call = macro.Call(
        address_of(x),
        0,
        0,
        address_of(out),
        0,
        address_of(floats.bias),
        packed.n,
        packed.values.shape[1],
        geometry.batch,
        geometry.out_height * geometry.out_width,
        panel_bytes(),
        1,
    )
    _run_simd(call, gather_of(geometry), packed, floats, pool)


# --- portable --------------------------------------------------------------------------------------------------------


def _portable_workspace(packed: PackedWeight, tiles: int) -> tuple[Array, Array, NDArray[np.int32]]:
    lanes = PORTABLE_VECTORS * LANES
    block = block_length(packed.values.shape[1] * REDUCTION, PORTABLE_VECTORS, panel_bytes())
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


def _portable_matmul(x: Array, packed: PackedWeight, epilogue: Epilogue, out: Array, pool: ThreadPool) -> None:
    rows = x.shape[0]
    if rows == 0 or packed.n == 0:
        return
    finish = _portable_epilogue(_float(epilogue))
    shares = split_work(panel_count(rows, PORTABLE_VECTORS), packed.values.shape[0], pool.threads)
    x = _unwritable(x)

    def task(number: int) -> None:
        work = shares[number]
        panel, partial, _ = _portable_workspace(packed, work.last_tile - work.first_tile)
        for job in range(work.first_panel, work.last_panel):
            first, vectors = panel_bounds(rows, PORTABLE_VECTORS, job)
            span = (first, min(rows, first + vectors * LANES))
            tiles = (work.first_tile, work.last_tile)
            portable.matmul_block(x, packed.values, packed.index, finish, out, (panel, partial), span, tiles)

    pool.run(task, len(shares))


def _portable_conv(
    x: Array, geometry: ConvGeometry, packed: PackedWeight, epilogue: Epilogue, out: Array, pool: ThreadPool
) -> None:
    if out.size == 0:
        return
    finish = _portable_epilogue(_float(epilogue))
    gather = gather_of(geometry)
    pixels = gather.out_pixels
    panels = panel_count(pixels, PORTABLE_VECTORS)
    shares = split_work(geometry.batch * panels, packed.values.shape[0], pool.threads)
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
            weights = (packed.values, packed.index)
            portable.conv_block(images[image], gather, *weights, finish, results[image], workspace, span, tiles)

    pool.run(task, len(shares))


# --- descriptors -----------------------------------------------------------------------------------------------------


def _kernel(tier: str, vectors: int, matmul: Any, conv: Any) -> Kernel:
    lanes = vectors * LANES
    name = f"f32_n2m4_gemm_{lanes}x{CHANNELS}__{tier}"

    def pack_weight(values: NDArray[Any], index: NDArray[np.uint8]) -> PackedWeight:
        return weight.pack(name, values, index)

    return Kernel(name, "f32", lanes, CHANNELS, tier, pack_weight, matmul, conv)


SIMD = _kernel("avx512", MAX_VECTORS, _simd_matmul, _simd_conv)
PORTABLE = _kernel("generic", PORTABLE_VECTORS, _portable_matmul, _portable_conv)
