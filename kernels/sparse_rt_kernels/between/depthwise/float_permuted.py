"""The float32 depthwise convolution of 3x3 and 5x5 with strides: permutations of what is loaded instead of copies."""

import functools
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sparse_rt_kernels.between.depthwise.float_permuted_micro import PieceTables, convolve_pieces
from sparse_rt_kernels.between.depthwise.operands import Floats, Planes
from sparse_rt_kernels.between.depthwise.pieces import Pieces, pieces_of
from sparse_rt_kernels.cpu import isa
from sparse_rt_kernels.cpu.caches import level1_bytes
from sparse_rt_kernels.jit.compilation import TaskFunction
from sparse_rt_kernels.jit.compiler import carray
from sparse_rt_kernels.product.epilogue import FloatEpilogue
from sparse_rt_kernels.product.geometry import ConvGeometry
from sparse_rt_kernels.threads.launch import Launch, Phase
from sparse_rt_kernels.threads.planes import plane_range, plane_tasks

__all__ = ["float_pieces", "prepare_permuted_floats"]

_FIELDS: Final = (
    *("planes", "tasks", "channels", "source_plane", "out_plane", "pieces", "places", "masks", "controls"),
    *("outs", "stores", "weights", "bias"),
)
_RECORD: Final = np.dtype([*((name, "i8") for name in _FIELDS), ("low", "f8"), ("high", "f8")])


def float_pieces(geometry: ConvGeometry, level: int) -> Pieces | None:
    """Return the pieces of a convolution that this kernel takes, which needs AVX-512; else None."""
    # Where neighbours are neighbours, copying a plane pays for the 25 taps of 5x5.
    is_known = geometry.kernel == (3, 3) or (geometry.kernel == (5, 5) and geometry.strides[1] > 1)
    if not isa.allows(level, "avx512") or not is_known:
        return None
    # About 16 pixels a piece, with controls of 64 bytes for each column of the kernel: they should stay in L2.
    if geometry.out_height * geometry.out_width // 16 * 64 * geometry.kernel[1] > 4 * level1_bytes():
        return None
    return pieces_of(geometry)


@functools.cache
def _task(side: int) -> TaskFunction:
    """Return the task for kernels of `side` rows and columns."""

    def permuted_task(task: int, arguments: Any, x: int, other: int, out: int, shared: int, scratch: int) -> int:
        """Convolve one task's planes, those of one image at a time."""
        a = carray(arguments, (1,), _RECORD)[0]
        first, last = plane_range(task, a.tasks, a.planes)
        step, jump, low, high = a.source_plane, a.out_plane, np.float32(a.low), np.float32(a.high)
        pieces = PieceTables(a.pieces, a.places, a.masks, a.controls, a.outs, a.stores)
        while first < last:
            channel = first % a.channels
            planes = Planes(min(last - first, a.channels - channel), x + first * step, step, out + first * jump, jump)
            weights = a.weights + channel * side * side * 4
            convolve_pieces(side, planes, pieces, weights, Floats(a.bias + channel * 4, low, high))
            first += planes.count
        return 0

    return permuted_task


def prepare_permuted_floats(
    geometry: ConvGeometry, weight: NDArray[np.float32], epilogue: FloatEpilogue, threads: int, pieces: Pieces
) -> Launch:
    """See :func:`sparse_rt_kernels.between.depthwise.prepare_depthwise`; `pieces` are :func:`float_pieces`."""
    g = geometry
    weights = np.array(weight, np.float32, order="C")
    planes, side, count = g.batch * g.channels, g.kernel[0], len(pieces.outs)
    # At 4 GHz: two masked loads for each row, and a permutation and an FMA for each tap.
    tasks = plane_tasks(planes, (count * (4 * side + side * side) + 10) / 4, threads)
    tables = (pieces.places, pieces.masks, pieces.controls, pieces.outs, pieces.stores, weights, epilogue.bias)
    record = (
        *(planes, tasks, g.channels, g.height * g.width * 4, g.out_height * g.out_width * 4, count),
        *(table.ctypes.data for table in tables),
        *(epilogue.low, epilogue.high),
    )
    phase = Phase(_task(side), np.array([record], _RECORD), tasks)
    return Launch([phase], keep=(pieces, weights, epilogue))
