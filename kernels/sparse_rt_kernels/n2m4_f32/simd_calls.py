"""How the SIMD kernels of the float32 2:4 family are called: plain numbers in, work split over lanes and threads."""

import functools
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_rt_kernels.epilogue import FloatEpilogue, IntegerEpilogue
from sparse_rt_kernels.gather import Gather, gather_of
from sparse_rt_kernels.geometry import ConvGeometry
from sparse_rt_kernels.n2m4_f32 import channel_macro, macro
from sparse_rt_kernels.n2m4_f32.shares import split_call
from sparse_rt_kernels.n2m4_f32.tiling import LANES, MAX_VECTORS, panel_bytes
from sparse_rt_kernels.parallel import ThreadPool
from sparse_rt_kernels.registry import PackedWeight
from sparse_rt_kernels.workspace import address_of, scratch

__all__ = ["conv_with", "float_epilogue", "matmul_with"]

Array = NDArray[np.float32]
Epilogue = FloatEpilogue | IntegerEpilogue

_gather_of = functools.lru_cache(maxsize=1024)(gather_of)
# A matmul gathers nothing.
_NO_GATHER = gather_of(ConvGeometry(1, 4, 1, 1, 4))


def float_epilogue(epilogue: Epilogue) -> FloatEpilogue:
    """Return `epilogue`, refusing one for integers."""
    if not isinstance(epilogue, FloatEpilogue):
        raise TypeError(f"f32 kernel: expected a FloatEpilogue, got {type(epilogue).__name__}.")
    return epilogue


_local = threading.local()


def _scratch(items: int) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int32]]:
    """Return this thread's scratch: at least `items` floats, the copy plan and the lane table.

    The views are kept, because making them takes longer than all else that Python does in a call.
    """
    held: tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int32]] | None = getattr(_local, "views", None)
    if held is None or held[0].size < items:
        floats = scratch("f32_n2m4", items * 4).view(np.float32)
        copies = scratch("f32_n2m4_copies", macro.COPIES * 4 * 8).view(np.int64).reshape(-1, 4)
        held = (floats, copies, scratch("f32_n2m4_lanes", 3 * MAX_VECTORS * LANES * 4).view(np.int32))
        _local.views = held
    return held


def _run(
    split: int,
    numbers: tuple[Any, ...],
    gather: Gather,
    packed: PackedWeight,
    epilogue: FloatEpilogue,
    pool: ThreadPool,
) -> None:
    """Compute rows [0, split) with lanes of rows and the others with lanes of channels.

    `numbers` are the arguments of :func:`.macro.run_panels` from `x` to `is_conv`.
    """
    images, rows, nbytes, is_conv = numbers[-4:]
    tiles, octets = packed.values.shape[:2]
    shares = split_call(rows, split, images, tiles, octets, is_conv, nbytes, pool.threads)
    spoiled = [0] * len(shares)
    low, high = float(epilogue.low), float(epilogue.high)

    def task(number: int) -> None:
        channel_lanes, first, last, work, items = shares[number]
        plain: Any = (first, last, *work, *numbers, low, high, *gather)
        arrays: Any = (packed.values, packed.index, *_scratch(items))
        run = channel_macro.run_rows if channel_lanes else macro.run_panels
        spoiled[number] = run(*plain, *arrays)

    pool.run(task, len(shares))
    if any(spoiled):
        # The tile of channel lanes multiplied stored zeros by inf or NaN: compute all again in the other shape.
        _run(rows, numbers, gather, packed, epilogue, pool)


def matmul_with(rows_as_lanes: Callable[[int], int]) -> Callable[..., None]:
    """Return the matmul that makes the first ``rows_as_lanes(m)`` rows lanes."""

    def matmul(x: Array, packed: PackedWeight, epilogue: Epilogue, out: Array, pool: ThreadPool) -> None:
        rows, columns = x.shape
        if rows == 0 or packed.n == 0:
            return
        floats = float_epilogue(epilogue)
        addresses = (address_of(x), x.strides[0], columns, address_of(out), out.strides[0], address_of(floats.bias))
        numbers = (*addresses, packed.n, 1, rows, panel_bytes(), 0)
        _run(rows_as_lanes(rows), numbers, _NO_GATHER, packed, floats, pool)

    return matmul


def conv_with(rows_as_lanes: Callable[[int], int]) -> Callable[..., None]:
    """Return the convolution that makes the first ``rows_as_lanes(pixels)`` output pixels of an image lanes."""

    def conv(
        x: Array, geometry: ConvGeometry, packed: PackedWeight, epilogue: Epilogue, out: Array, pool: ThreadPool
    ) -> None:
        if out.size == 0:
            return
        floats = float_epilogue(epilogue)
        pixels = geometry.out_height * geometry.out_width
        addresses = (address_of(x), 0, 0, address_of(out), 0, address_of(floats.bias))
        numbers = (*addresses, packed.n, geometry.batch, pixels, panel_bytes(), 1)
        _run(rows_as_lanes(pixels), numbers, _gather_of(geometry), packed, floats, pool)

    return conv
