"""The int8 depthwise convolution from planes to planes: nothing is copied, neither in nor out."""

import functools
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sparse_rt_kernels.between.depthwise.blocks import Blocks, blocks_of
from sparse_rt_kernels.between.depthwise.finish import kind_of
from sparse_rt_kernels.between.depthwise.operands import Bytes, Planes
from sparse_rt_kernels.between.depthwise.permuted_micro import BlockTables, convolve_permuted
from sparse_rt_kernels.between.depthwise.taps import words_of_taps
from sparse_rt_kernels.cpu import caches, isa
from sparse_rt_kernels.jit.compilation import TaskFunction
from sparse_rt_kernels.jit.compiler import carray
from sparse_rt_kernels.product.epilogue import IntegerEpilogue
from sparse_rt_kernels.product.geometry import ConvGeometry
from sparse_rt_kernels.product.u8s8.clipping import clip_bounds
from sparse_rt_kernels.threads.launch import Launch, Phase
from sparse_rt_kernels.threads.planes import plane_range, plane_tasks
from sparse_rt_kernels.threads.workspace import aligned_empty

__all__ = ["permuted_blocks", "prepare_permuted"]

_FIELDS: Final = (
    *("planes", "tasks", "channels", "taps", "group", "source_plane", "out_plane", "blocks"),
    *("block_bytes", "places", "masks", "controls", "stores", "weights", "offset", "scale", "bias", "kind"),
    *("flip", "pad", "zero_point"),
)
_PERMUTED: Final = np.dtype([*((name, "i8") for name in _FIELDS), ("low", "f8"), ("high", "f8")])
#: Kernels that have code of their own.
_KERNELS: Final = ((3, 3), (5, 5))
#: Planes that are convolved together, block by block: as many as stay in the first-level cache, but so many at least.
_LEAST_GROUP: Final = 16


def permuted_blocks(geometry: ConvGeometry, level: int) -> Blocks | None:
    """Return the blocks of a convolution that this kernel takes, which needs AVX-512 VNNI and VBMI; else None."""
    if not isa.allows(level, "avx512vnni") or geometry.kernel not in _KERNELS:
        return None
    return blocks_of(geometry)


@functools.cache
def _task(rows: int, registers: int, vectors: int) -> TaskFunction:
    """Return the task for one shape of blocks; see :func:`permuted_micro.convolve_permuted`."""

    def permuted_task(task: int, arguments: Any, x: int, other: int, out: int, shared: int, scratch: int) -> int:
        """Convolve one task's planes, a group of those of one image at a time."""
        a = carray(arguments, (1,), _PERMUTED)[0]
        first, last = plane_range(task, a.tasks, a.planes)
        step, jump, low, high = a.source_plane, a.out_plane, np.float32(a.low), np.float32(a.high)
        blocks = BlockTables(a.blocks, a.block_bytes, a.places, a.masks, a.controls, a.stores, a.flip, a.pad)
        while first < last:
            count = min(a.group, last - first, a.channels - first % a.channels)
            planes, at = Planes(count, x + first * step, step, out + first * jump, jump), first % a.channels * 4
            operands = Bytes(a.kind, a.offset + at, a.scale + at, a.bias + at, low, high, a.zero_point)
            weights = a.weights + at * a.taps
            convolve_permuted(rows, registers, vectors, planes, blocks, weights, operands)
            first += count
        return 0

    return permuted_task


def prepare_permuted(
    geometry: ConvGeometry,
    x_dtype: np.dtype[Any],
    out_dtype: np.dtype[Any],
    weight: NDArray[np.int8],
    epilogue: IntegerEpilogue,
    threads: int,
    blocks: Blocks,
) -> Launch:
    """See :func:`sparse_rt_kernels.between.depthwise.prepare_depthwise`; `blocks` are :func:`permuted_blocks`."""
    g = geometry
    words = words_of_taps(weight, 4)
    flip = 128 if x_dtype.char == "b" else 0
    offset = epilogue.offset - np.int32(flip) * weight.sum(axis=(1, 2), dtype=np.int32)
    controls = aligned_empty(blocks.controls.size)
    controls[:] = blocks.controls.ravel()
    low, high = clip_bounds(epilogue, out_dtype)
    planes, size, count = g.batch * g.channels, out_dtype.itemsize, len(blocks.places)
    # At 4 GHz: permutations and dots for each tap, and the epilogue.
    cycles = count * (blocks.vectors * words.shape[1] + 6)
    tasks = plane_tasks(planes, cycles / 4, threads)
    plane_bytes = g.height * g.width + g.out_height * g.out_width * size
    group = max(_LEAST_GROUP, caches.level1_bytes() * 2 // 3 // plane_bytes)
    record = (
        *(planes, tasks, g.channels, words.shape[1], group),
        *(g.height * g.width, g.out_height * g.out_width * size, count, blocks.pixels * size),
        *(table.ctypes.data for table in (blocks.places, blocks.masks, controls, blocks.stores, words, offset)),
        *(*epilogue.addresses[1:], kind_of(out_dtype, epilogue), flip, geometry.pad_value & 255, epilogue.zero_point),
        *(low, high),
    )
    phase = Phase(_task(g.kernel[0], blocks.registers, blocks.vectors), np.array([record], _PERMUTED), tasks)
    return Launch([phase], keep=(blocks, controls, words, offset, epilogue))
