"""The int8 2:4 kernel for AVX-512 VNNI, as the registry describes it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_rt_kernels.epilogue import FloatEpilogue, IntegerEpilogue
from sparse_rt_kernels.geometry import ConvGeometry
from sparse_rt_kernels.n2m4_u8s8 import layout
from sparse_rt_kernels.n2m4_u8s8.blocking import Blocking, blocking, images_per_group, partition
from sparse_rt_kernels.n2m4_u8s8.clipping import clip_bounds
from sparse_rt_kernels.n2m4_u8s8.finish import BYTE, FLOAT32, INT32
from sparse_rt_kernels.n2m4_u8s8.panels import stage_rows
from sparse_rt_kernels.n2m4_u8s8.product import conv_task, matmul_task, pointwise_task
from sparse_rt_kernels.n2m4_u8s8.staging import staging_of
from sparse_rt_kernels.parallel import ThreadPool
from sparse_rt_kernels.registry import Kernel, PackedWeight
from sparse_rt_kernels.workspace import address_of, scratch_address

__all__ = ["VNNI"]

NAME = f"u8s8_n2m4_gemm_{layout.ROWS}x{layout.CHANNELS}__avx512vnni"

#: What turns int8 into uint8, in each of 8 bytes; as a signed integer, which is what kernels take.
_SIGN_BITS = int.from_bytes(b"\x80" * 8, "little", signed=True)
#: By dtype character.
_KINDS = {np.dtype(np.int32).char: INT32, np.dtype(np.float32).char: FLOAT32, "B": BYTE, "b": BYTE}
#: Pixels from which on a 1x1 convolution packs each image on its own, instead of staging several side by side.
_DIRECT_PIXELS = 4 * layout.ROWS
#: Rows of a staged image that are worth a task of their own.
_STAGED_BYTES = 32 * 1024


def _pack(values: NDArray[np.int8], index: NDArray[np.uint8]) -> PackedWeight:
    return layout.pack(NAME, values, index)


def _epilogue(epilogue: IntegerEpilogue, packed: PackedWeight, x: Any, out: NDArray[Any]) -> tuple[Any, ...]:
    """Return the kernels' arguments from `kind` to `sign`."""
    low, high = clip_bounds(epilogue, out.dtype)
    offset, scale, bias = epilogue.addresses
    kind, shift = _KINDS[out.dtype.char], 128 if x.dtype.char == "b" else 0
    sign = 128 if out.dtype.char == "b" else 0
    # int(): a NumPy integer of another width would be another signature, and compile the kernel again.
    return kind, offset, packed.addresses[2], shift, scale, bias, low, high, int(epilogue.zero_point), sign


def _scratch(blocks: Blocking) -> tuple[int, ...]:
    """Return the kernels' arguments from `block_rows` to `table`, in this thread's scratch."""
    base = scratch_address("u8s8", blocks.end)
    return (
        blocks.rows,
        blocks.steps,
        base + blocks.panel,
        base + blocks.controls,
        base + blocks.sums,
        base + blocks.table,
    )


def matmul(
    x: NDArray[Any],
    packed: PackedWeight,
    epilogue: FloatEpilogue | IntegerEpilogue,
    out: NDArray[Any],
    pool: ThreadPool,
) -> None:
    """``out = epilogue(x @ w.T)``; see :class:`sparse_rt_kernels.registry.Kernel` and docs/kernels.md."""
    if not isinstance(epilogue, IntegerEpilogue):
        raise TypeError(f"{NAME}: expected an IntegerEpilogue, got {type(epilogue).__name__}.")
    m, columns = x.shape
    if not out.size:
        return
    steps = packed.values.shape[1]
    parts = partition(m, packed.n, pool.threads)
    blocks = blocking(steps, -(-m // parts.row_parts), out.strides[0])
    arguments = (
        *parts,
        address_of(x),
        x.strides[0],
        columns,
        m,
        _SIGN_BITS if x.dtype.char == "b" else 0,
        *packed.addresses[:2],
        packed.n,
        steps,
        address_of(out),
        out.strides[0],
        out.itemsize,
        *_epilogue(epilogue, packed, x, out),
    )
    pool.run(lambda task: _discard(matmul_task(task, *arguments, *_scratch(blocks))), parts.tasks)


def _discard(_: Any) -> None:
    """Drop a kernel's result."""


def conv(
    x: NDArray[Any],
    geometry: ConvGeometry,
    packed: PackedWeight,
    epilogue: FloatEpilogue | IntegerEpilogue,
    out: NDArray[Any],
    pool: ThreadPool,
) -> None:
    """``out = epilogue(conv(x, w))``; see :class:`sparse_rt_kernels.registry.Kernel` and docs/kernels.md."""
    if not isinstance(epilogue, IntegerEpilogue):
        raise TypeError(f"{NAME}: expected an IntegerEpilogue, got {type(epilogue).__name__}.")
    if not out.size:
        return
    if geometry.is_pointwise and geometry.height * geometry.width >= _DIRECT_PIXELS:
        _pointwise(x, geometry, packed, epilogue, out, pool)
        return
    staging = staging_of(geometry)
    group = images_per_group(staging.image_bytes, geometry.batch)
    # The last step may reach 4 bytes beyond the last pixel.
    staged = scratch_address("u8s8 staged", group * staging.image_bytes + 8)
    flip = _SIGN_BITS if x.dtype.char == "b" else 0
    pixels = geometry.out_height * geometry.out_width
    steps = packed.values.shape[1]
    stage = (
        geometry.channels,
        staging.source_height,
        staging.source_width,
        *geometry.pads[:2],
        *geometry.input_stride,
        staging.padded_height,
        staging.padded_width,
        staging.depth,
        (int(geometry.pad_value) ^ flip) & 255,
        flip,
        staged,
    )
    product = (
        geometry.out_height,
        geometry.out_width,
        staging.row_stride,
        staging.pixel_stride,
        staging.image_bytes,
        *packed.addresses[:2],
        packed.n,
        steps,
    )
    finish = (out.itemsize, *_epilogue(epilogue, packed, x, out))
    x_address, out_address, words = address_of(x), address_of(out), staging.words_address
    for first in range(0, geometry.batch, group):
        images = min(group, geometry.batch - first)
        source = x_address + first * geometry.channels * geometry.height * geometry.width
        target = out_address + first * packed.n * pixels * out.itemsize
        _stage(source, images * staging.padded_height, images * staging.image_bytes, stage, pool)
        parts = partition(images * pixels, packed.n, pool.threads)
        blocks = blocking(steps, -(-images * pixels // parts.row_parts))
        arguments = (*parts, staged, words, images, *product, target, *finish)
        _run_conv(arguments, blocks, parts.tasks, pool)


def _pointwise(
    x: NDArray[Any],
    geometry: ConvGeometry,
    packed: PackedWeight,
    epilogue: IntegerEpilogue,
    out: NDArray[Any],
    pool: ThreadPool,
) -> None:
    """Convolve with a 1x1 kernel, packing panels straight from the planes."""
    pixels, steps = geometry.height * geometry.width, packed.values.shape[1]
    parts = partition(pixels, packed.n, pool.threads)
    blocks = blocking(steps, -(-pixels // parts.row_parts))
    arguments = (
        *parts,
        address_of(x),
        geometry.batch,
        geometry.channels,
        pixels,
        _SIGN_BITS if x.dtype.char == "b" else 0,
        *packed.addresses[:2],
        packed.n,
        steps,
        address_of(out),
        out.itemsize,
        *_epilogue(epilogue, packed, x, out),
    )
    pool.run(lambda task: _discard(pointwise_task(task, *arguments, *_scratch(blocks))), parts.tasks)


def _stage(source: int, rows: int, nbytes: int, arguments: tuple[int, ...], pool: ThreadPool) -> None:
    """Stage `rows` rows, in as many tasks as their bytes are worth."""
    tasks = max(1, min(rows, pool.threads, nbytes // _STAGED_BYTES))
    pool.run(
        lambda task: _discard(stage_rows(rows * task // tasks, rows * (task + 1) // tasks, source, *arguments)), tasks
    )


def _run_conv(arguments: tuple[Any, ...], blocks: Blocking, tasks: int, pool: ThreadPool) -> None:
    pool.run(lambda task: _discard(conv_task(task, *arguments, *_scratch(blocks))), tasks)


VNNI = Kernel(NAME, "u8s8", layout.ROWS, layout.CHANNELS, "avx512vnni", _pack, matmul, conv)
