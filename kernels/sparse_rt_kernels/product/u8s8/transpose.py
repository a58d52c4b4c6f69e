"""Transpose whole images of bytes: planes to blocks of 8 channels (NCHWc8), and back.

For values that one step writes in another layout than its reader needs; convolutions that read planes transpose
them themselves.
"""

from typing import Any, Final

import numpy as np

from sparse_rt_kernels.jit.compilation import kernel_jit
from sparse_rt_kernels.jit.compiler import carray
from sparse_rt_kernels.product.nchwc8 import NCHWc8
from sparse_rt_kernels.product.u8s8.memory import fill_bytes, put_octet
from sparse_rt_kernels.product.u8s8.nchwc8_moves import pixels_of_planes, planes_of_pixels, put_octets
from sparse_rt_kernels.product.u8s8.sizes import STEP
from sparse_rt_kernels.threads.launch import Launch, Phase

__all__ = ["border_phase", "prepare_to_blocks", "prepare_to_planes"]

_PIXELS: Final = 64
#: Bytes that are worth a task of their own, about 4 us.
_TASK_BYTES: Final = 128 * 1024
#: `blocks` blocks of 8 channels of all images, in `parts` tasks; rows of `width` pixels, `row_bytes` apart, and what
#: lies around them.
_RECORD = np.dtype(
    [
        *((name, "i8") for name in ("blocks", "parts", "height", "width", "row_bytes", "plane_bytes", "first")),
        *((name, "i8") for name in ("top", "left", "bottom", "right", "pad", "flip")),
    ]
)


def _record(blocks: NCHWc8, dtype: np.dtype[Any], threads: int) -> tuple[int, tuple[int, ...]]:
    flip = 128 if dtype.char == "b" else 0
    count = blocks.batch * blocks.channels // STEP
    parts = max(1, min(count, threads, count * blocks.plane_bytes // _TASK_BYTES))
    height, width, row_bytes = blocks.height, blocks.width, blocks.row_bytes
    if not blocks.has_border:
        height, width, row_bytes = 1, height * width, height * row_bytes
    octet = int.from_bytes(bytes([blocks.pad]) * STEP, "little", signed=True)
    flips = int.from_bytes(bytes([flip]) * STEP, "little", signed=True)
    shape = (height, width, row_bytes, blocks.plane_bytes, blocks.first_pixel, *blocks.border)
    return parts, (count, parts, *shape, octet, flips)


@kernel_jit
def _surround(a: Any, plane: int) -> int:
    """Store the padding around a plane of blocks."""
    fill_bytes(plane, a.top * a.row_bytes, a.pad)
    right = a.left + a.width
    for row in range(plane + a.top * a.row_bytes, plane + (a.top + a.height) * a.row_bytes, a.row_bytes):
        for column in range(a.left):
            put_octet(row + column * STEP, a.pad)
        for column in range(right, right + a.right):
            put_octet(row + column * STEP, a.pad)
    fill_bytes(plane + (a.top + a.height) * a.row_bytes, a.bottom * a.row_bytes, a.pad)
    return 0


def _blocks_task(task: int, arguments: Any, x: int, other: int, out: int, shared: int, scratch: int) -> int:
    """Transpose some planes to blocks."""
    a = carray(arguments, (1,), _RECORD)[0]
    plane = a.height * a.width
    for block in range(a.blocks * task // a.parts, a.blocks * (task + 1) // a.parts):
        source, target = x + block * STEP * plane, out + block * a.plane_bytes
        for row in range(a.height):
            for pixel in range(0, a.width, _PIXELS):
                count = min(_PIXELS, a.width - pixel)
                pixels_of_planes(source + row * a.width + pixel, plane, count, scratch, a.flip)
                put_octets(scratch, count, target + a.first + row * a.row_bytes + pixel * STEP)
        if a.top + a.left + a.bottom + a.right > 0:
            _surround(a, target)
    return 0


def _border_task(task: int, arguments: Any, x: int, other: int, out: int, shared: int, scratch: int) -> int:
    """Store the padding around some planes of blocks."""
    a = carray(arguments, (1,), _RECORD)[0]
    for block in range(a.blocks * task // a.parts, a.blocks * (task + 1) // a.parts):
        _surround(a, out + block * a.plane_bytes)
    return 0


def _planes_task(task: int, arguments: Any, x: int, other: int, out: int, shared: int, scratch: int) -> int:
    """Transpose some blocks to planes."""
    a = carray(arguments, (1,), _RECORD)[0]
    plane = a.height * a.width
    for block in range(a.blocks * task // a.parts, a.blocks * (task + 1) // a.parts):
        source, target = x + block * a.plane_bytes + a.first, out + block * STEP * plane
        for row in range(a.height):
            for pixel in range(0, a.width, _PIXELS):
                place = source + row * a.row_bytes + pixel * STEP
                planes_of_pixels(place, a.width - pixel, target + row * a.width + pixel, plane, a.flip)
    return 0


def prepare_to_blocks(blocks: NCHWc8, dtype: np.dtype[Any], threads: int) -> Launch:
    """Prepare ``out = x``: planes (b, c, h, w) of uint8 or int8 into `blocks`, and the border around them."""
    parts, record = _record(blocks, dtype, threads)
    return Launch([Phase(_blocks_task, np.array([record], _RECORD), parts)], 0, _PIXELS * STEP)


def border_phase(blocks: NCHWc8, threads: int) -> Phase:
    """Return a phase that stores the border of `blocks`, of which there is one, into ``out``."""
    parts, record = _record(blocks, np.dtype(np.uint8), threads)
    return Phase(_border_task, np.array([record], _RECORD), parts)


def prepare_to_planes(blocks: NCHWc8, dtype: np.dtype[Any], threads: int) -> Launch:
    """Prepare ``out = x``: `blocks` into planes (b, c, h, w) of uint8 or int8."""
    parts, record = _record(blocks, dtype, threads)
    return Launch([Phase(_planes_task, np.array([record], _RECORD), parts)])
