"""The int8 depthwise convolution of narrow planes: nothing is copied, neither in nor out."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sparse_rt_kernels import isa
from sparse_rt_kernels.compiler import carray
from sparse_rt_kernels.depthwise.blocks import Blocks, blocks_of
from sparse_rt_kernels.depthwise.finish import KINDS
from sparse_rt_kernels.depthwise.permuted_micro import convolve_permuted
from sparse_rt_kernels.depthwise.taps import words_of_taps
from sparse_rt_kernels.epilogue import IntegerEpilogue
from sparse_rt_kernels.geometry import ConvGeometry
from sparse_rt_kernels.jit import kernel_jit
from sparse_rt_kernels.launch import Launch, Phase
from sparse_rt_kernels.n2m4_u8s8.clipping import clip_bounds
from sparse_rt_kernels.planes import plane_range, plane_tasks
from sparse_rt_kernels.workspace import aligned_empty

__all__ = ["permuted_blocks", "prepare_permuted"]

_FIELDS: Final = (
    *("planes", "tasks", "channels", "taps", "rows", "registers", "source_plane", "out_plane", "blocks"),
    *("block_bytes", "places", "masks", "controls", "stores", "weights", "offset", "scale", "bias", "kind"),
    *("flip", "pad", "zero_point"),
)
_PERMUTED: Final = np.dtype([*((name, "i8") for name in _FIELDS), ("low", "f8"), ("high", "f8")])
#: Kernels that have code of their own.
_KERNELS: Final = ((3, 3), (5, 5))


def permuted_blocks(geometry: ConvGeometry) -> Blocks | None:
    """Return the blocks of a convolution that this kernel takes, which needs AVX-512 VNNI and VBMI; else None."""
    if not isa.fits("avx512vnni", isa.cpu_features()) or geometry.kernel not in _KERNELS or geometry.out_width > 64:
        return None
    return blocks_of(geometry)


@kernel_jit
def _convolve(a: Any, first: int, planes: int, x: int, out: int) -> int:
    """Convolve some planes of one image."""
    channel = first % a.channels
    source, target = x + first * a.source_plane, out + first * a.out_plane
    weights, offset = a.weights + channel * a.taps * 4, a.offset + channel * 4
    scale, bias = a.scale + channel * 4, a.bias + channel * 4
    step, jump, blocks, size, places, masks = a.source_plane, a.out_plane, a.blocks, a.block_bytes, a.places, a.masks
    controls, stores, kind, flip, pad, zero = a.controls, a.stores, a.kind, a.flip, a.pad, a.zero_point
    low, high = np.float32(a.low), np.float32(a.high)
    if a.rows == 3:
        if a.registers == 1:
            return convolve_permuted(
                3,
                1,
                1,
                planes,
                source,
                step,
                target,
                jump,
                blocks,
                size,
                places,
                masks,
                controls,
                stores,
                weights,
                offset,
                scale,
                bias,
                kind,
                flip,
                pad,
                low,
                high,
                zero,
            )
        return convolve_permuted(
            3,
            1,
            2,
            planes,
            source,
            step,
            target,
            jump,
            blocks,
            size,
            places,
            masks,
            controls,
            stores,
            weights,
            offset,
            scale,
            bias,
            kind,
            flip,
            pad,
            low,
            high,
            zero,
        )
    if a.registers == 1:
        return convolve_permuted(
            5,
            2,
            1,
            planes,
            source,
            step,
            target,
            jump,
            blocks,
            size,
            places,
            masks,
            controls,
            stores,
            weights,
            offset,
            scale,
            bias,
            kind,
            flip,
            pad,
            low,
            high,
            zero,
        )
    return convolve_permuted(
        5,
        2,
        2,
        planes,
        source,
        step,
        target,
        jump,
        blocks,
        size,
        places,
        masks,
        controls,
        stores,
        weights,
        offset,
        scale,
        bias,
        kind,
        flip,
        pad,
        low,
        high,
        zero,
    )


def _permuted_task(task: int, arguments: Any, x: int, other: int, out: int, shared: int, scratch: int) -> int:
    """Convolve one task's planes, those of one image at a time."""
    a = carray(arguments, (1,), _PERMUTED)[0]
    first, last = plane_range(task, a.tasks, a.planes)
    while first < last:
        planes = min(last - first, a.channels - first % a.channels)
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
    """See :func:`sparse_rt_kernels.depthwise.prepare_depthwise`; `blocks` are :func:`permuted_blocks`."""
    g = geometry
    words = words_of_taps(weight, 4)
    flip = 128 if x_dtype.char == "b" else 0
    offset = epilogue.offset - np.int32(flip) * weight.sum(axis=(1, 2), dtype=np.int32)
    controls = aligned_empty(blocks.controls.size)
    controls[:] = blocks.controls.ravel()
    low, high = clip_bounds(epilogue, out_dtype)
    planes, size, count = g.batch * g.channels, out_dtype.itemsize, len(blocks.places)
    # At 4 GHz: 4 permutations and dots for each tap, and the epilogue.
    tasks = plane_tasks(planes, (count * (4 * words.shape[1] + 12) + 10) / 4, threads)
    record = (
        *(planes, tasks, g.channels, words.shape[1], g.kernel[0], blocks.registers, g.height * g.width),
        *(g.out_height * g.out_width * size, count, blocks.rows * g.out_width * size),
        *(table.ctypes.data for table in (blocks.places, blocks.masks, controls, blocks.stores, words, offset)),
        *(*epilogue.addresses[1:], KINDS[out_dtype.char], flip, geometry.pad_value & 255, epilogue.zero_point),
        *(low, high),
    )
    phase = Phase(_permuted_task, np.array([record], _PERMUTED), tasks)
    return Launch([phase], keep=(blocks, controls, words, offset, epilogue))
