"""The float32 3x3 depthwise convolution of stride 1 or 2, some output rows at a time, from planes to planes."""

import functools
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sparse_rt_kernels.between.depthwise.float_rows_micro import Image, RowPieces, convolve_rows
from sparse_rt_kernels.between.depthwise.operands import Floats, Planes
from sparse_rt_kernels.cpu import isa
from sparse_rt_kernels.jit.compilation import TaskFunction
from sparse_rt_kernels.jit.compiler import carray
from sparse_rt_kernels.product.epilogue import FloatEpilogue
from sparse_rt_kernels.product.geometry import ConvGeometry
from sparse_rt_kernels.threads.launch import Launch, Phase
from sparse_rt_kernels.threads.planes import plane_range, plane_tasks
from sparse_rt_kernels.threads.workspace import aligned_empty
from sparse_rt_kernels.vectors.registers import LANES

__all__ = ["can_share_rows", "prepare_rows"]

_FIELDS: Final = (
    *("planes", "tasks", "channels", "source_plane", "out_plane", "height", "width"),
    *("out_height", "out_width", "top", "pieces", "places", "masks", "zeros", "weights", "bias"),
)
_RECORD: Final = np.dtype([*((name, "i8") for name in _FIELDS), ("low", "f8"), ("high", "f8")])
_SIDE: Final = 3
#: Output rows that may be computed together: sums and weights fill the registers, and 7 divides many images' heights.
_TOGETHER: Final = (7, 4)


def can_share_rows(geometry: ConvGeometry, level: int) -> bool:
    """Return whether this kernel takes a convolution: AVX-512, 3x3, equal strides of 1 or 2, at least 4 rows."""
    return (
        isa.allows(level, "avx512")
        and geometry.kernel == (_SIDE, _SIDE)
        and geometry.strides in ((1, 1), (2, 2))
        and geometry.dilations == (1, 1)
        and geometry.out_height >= min(_TOGETHER)
    )


@functools.cache
def _task(together: int, down: int) -> TaskFunction:
    """Return the task for one size of groups of rows and one stride; see :func:`float_rows_micro.convolve_rows`."""

    def rows_task(task: int, arguments: Any, x: int, other: int, out: int, shared: int, scratch: int) -> int:
        """Convolve one task's planes, those of one image at a time."""
        a = carray(arguments, (1,), _RECORD)[0]
        first, last = plane_range(task, a.tasks, a.planes)
        step, jump, low, high = a.source_plane, a.out_plane, np.float32(a.low), np.float32(a.high)
        image = Image(a.height, a.width, a.out_height, a.out_width, a.top, a.zeros)
        pieces = RowPieces(a.pieces, a.places, a.masks)
        while first < last:
            channel = first % a.channels
            planes = Planes(min(last - first, a.channels - channel), x + first * step, step, out + first * jump, jump)
            operands = Floats(a.bias + channel * 4, low, high)
            convolve_rows(together, down, planes, image, pieces, a.weights + channel * 36, operands)
            first += planes.count
        return 0

    return rows_task


def _pieces(geometry: ConvGeometry) -> tuple[NDArray[np.int64], NDArray[np.uint16]]:
    """Return the tables of an output row's parts, nearly equal ones; see :func:`float_rows_micro.convolve_rows`."""
    g = geometry
    down = g.strides[1]
    # What the pixels of a part read must fit one register, or two if the stride is 2.
    count = -(-g.out_width // ((LANES * down - _SIDE) // down + 1))
    columns = -(-g.out_width // count)
    firsts = np.arange(0, g.out_width, columns)
    reads = firsts * down - g.pads[1]
    places = np.stack([reads, firsts], axis=1) * 4
    lanes = np.arange(LANES)
    items = reads[:, None, None] + np.arange(down)[:, None] * LANES + lanes
    flags = np.zeros((len(firsts), 4, LANES), bool)
    flags[:, :down] = (items >= 0) & (items < g.width)
    flags[:, _SIDE] = lanes < np.minimum(columns, g.out_width - firsts)[:, None]
    bits = np.packbits(flags, axis=-1, bitorder="little").view("<u2").astype(np.uint16)
    return np.ascontiguousarray(places, np.int64), np.ascontiguousarray(bits[..., 0])


def prepare_rows(geometry: ConvGeometry, weight: NDArray[np.float32], epilogue: FloatEpilogue, threads: int) -> Launch:
    """See :func:`sparse_rt_kernels.between.depthwise.prepare_depthwise`; :func:`can_share_rows` must hold."""
    g = geometry
    places, masks = _pieces(g)
    weights = np.array(weight, np.float32, order="C")
    zeros = aligned_empty((g.width + g.strides[1] * g.out_width + 8 * LANES) * 4 + 4 * max(0, g.pads[1]))
    zeros[:] = 0
    down = g.strides[0]
    fitting = [rows for rows in _TOGETHER if rows <= g.out_height]
    # The fewest rows computed twice; of equals, the larger group, which loads less.
    together = min(fitting, key=lambda rows: -(-g.out_height // rows) * rows)
    planes, size = g.batch * g.channels, len(places)
    # At 4 GHz: 9 FMAs for each vector, 2 a cycle, and about as many loads that cross lines; permutations at stride 2.
    tasks = plane_tasks(planes, -(-g.out_height // together) * together * size * 6 * down / 4, threads)
    record = (
        *(planes, tasks, g.channels, g.height * g.width * 4, g.out_height * g.out_width * 4),
        *(g.height, g.width, g.out_height, g.out_width, g.pads[0], size, places.ctypes.data, masks.ctypes.data),
        *(zeros.ctypes.data + 4 * max(0, g.pads[1]), weights.ctypes.data, epilogue.bias.ctypes.data),
        *(epilogue.low, epilogue.high),
    )
    phase = Phase(_task(together, down), np.array([record], _RECORD), tasks)
    return Launch([phase], keep=(places, masks, zeros, weights, epilogue))
