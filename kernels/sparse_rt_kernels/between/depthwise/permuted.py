"""The int8 depthwise convolution from planes to planes: nothing is copied, neither in nor out."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sparse_rt_kernels.between.depthwise.blocks import Blocks, blocks_of
from sparse_rt_kernels.between.depthwise.finish import kind_of
from sparse_rt_kernels.between.depthwise.permuted_micro import convolve_permuted
from sparse_rt_kernels.between.depthwise.taps import words_of_taps
from sparse_rt_kernels.cpu import caches, isa
from sparse_rt_kernels.jit.compilation import kernel_jit
from sparse_rt_kernels.jit.compiler import carray
from sparse_rt_kernels.product.epilogue import IntegerEpilogue
from sparse_rt_kernels.product.geometry import ConvGeometry
from sparse_rt_kernels.product.u8s8.clipping import clip_bounds
from sparse_rt_kernels.threads.launch import Launch, Phase
from sparse_rt_kernels.threads.planes import plane_range, plane_tasks
from sparse_rt_kernels.threads.workspace import aligned_empty

__all__ = ["permuted_blocks", "prepare_permuted"]

_FIELDS: Final = (
    *(
        "planes",
        "tasks",
        "channels",
        "taps",
        "rows",
        "registers",
        "vectors",
        "group",
        "source_plane",
        "out_plane",
        "blocks",
    ),
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


def _convolver(rows: int, groups: int, registers: int, vectors: int) -> Callable[[Any, int, int, int, int], int]:
    """Return the function for one shape of blocks; see :func:`permuted_micro.convolve_permuted`."""

    @kernel_jit
    def convolve(a: Any, first: int, planes: int, x: int, out: int) -> int:
        """Convolve some planes of one image."""
        channel = first % a.channels
        return convolve_permuted(
            rows,
            groups,
            registers,
            vectors,
            planes,
            x + first * a.source_plane,
            a.source_plane,
            out + first * a.out_plane,
            a.out_plane,
            a.blocks,
            a.block_bytes,
            a.places,
            a.masks,
            a.controls,
            a.stores,
            a.weights + channel * a.taps * 4,
            a.offset + channel * 4,
            a.scale + channel * 4,
            a.bias + channel * 4,
            a.kind,
            a.flip,
            a.pad,
            np.float32(a.low),
            np.float32(a.high),
            a.zero_point,
        )

    return convolve


_convolve_3_1_2, _convolve_3_1_4 = _convolver(3, 1, 1, 2), _convolver(3, 1, 1, 4)
_convolve_3_2_2, _convolve_3_2_4 = _convolver(3, 1, 2, 2), _convolver(3, 1, 2, 4)
_convolve_5_1_2, _convolve_5_1_4 = _convolver(5, 2, 1, 2), _convolver(5, 2, 1, 4)
_convolve_5_2_2, _convolve_5_2_4 = _convolver(5, 2, 2, 2), _convolver(5, 2, 2, 4)


@kernel_jit
def _convolve(a: Any, first: int, planes: int, x: int, out: int) -> int:
    """Call the function for these blocks."""
    if a.rows == 3 and a.registers == 1 and a.vectors == 2:
        return _convolve_3_1_2(a, first, planes, x, out)
    if a.rows == 3 and a.registers == 1 and a.vectors == 4:
        return _convolve_3_1_4(a, first, planes, x, out)
    if a.rows == 3 and a.registers == 2 and a.vectors == 2:
        return _convolve_3_2_2(a, first, planes, x, out)
    if a.rows == 3 and a.registers == 2 and a.vectors == 4:
        return _convolve_3_2_4(a, first, planes, x, out)
    if a.rows == 5 and a.registers == 1 and a.vectors == 2:
        return _convolve_5_1_2(a, first, planes, x, out)
    if a.rows == 5 and a.registers == 1 and a.vectors == 4:
        return _convolve_5_1_4(a, first, planes, x, out)
    if a.rows == 5 and a.registers == 2 and a.vectors == 2:
        return _convolve_5_2_2(a, first, planes, x, out)
    return _convolve_5_2_4(a, first, planes, x, out)


def _permuted_task(task: int, arguments: Any, x: int, other: int, out: int, shared: int, scratch: int) -> int:
    """Convolve one task's planes, a group of those of one image at a time."""
    a = carray(arguments, (1,), _PERMUTED)[0]
    first, last = plane_range(task, a.tasks, a.planes)
    while first < last:
        planes = min(a.group, last - first, a.channels - first % a.channels)
        _convolve(a, first, planes, x, out)
        first += planes
    return 0


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
        *(planes, tasks, g.channels, words.shape[1], g.kernel[0], blocks.registers, blocks.vectors, group),
        *(g.height * g.width, g.out_height * g.out_width * size, count, blocks.pixels * size),
        *(table.ctypes.data for table in (blocks.places, blocks.masks, controls, blocks.stores, words, offset)),
        *(*epilogue.addresses[1:], kind_of(out_dtype, epilogue), flip, geometry.pad_value & 255, epilogue.zero_point),
        *(low, high),
    )
    phase = Phase(_permuted_task, np.array([record], _PERMUTED), tasks)
    return Launch([phase], keep=(blocks, controls, words, offset, epilogue))
