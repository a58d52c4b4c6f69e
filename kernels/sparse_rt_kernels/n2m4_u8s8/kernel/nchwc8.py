"""Prepare convolutions over NCHWc8 images: the record that their tasks share."""

import itertools
from typing import Any, NamedTuple

import numpy as np

from sparse_rt_kernels.n2m4_u8s8.blocking.nchwc8 import ImageBlocking
from sparse_rt_kernels.n2m4_u8s8.task.nchwc8 import NCHWC8, nchwc8_task
from sparse_rt_kernels.n2m4_u8s8.tile.nchwc8 import PLACES_BYTES
from sparse_rt_kernels.n2m4_u8s8.tile.nchwc8_store import BLOCKS, PLANES
from sparse_rt_kernels.product.epilogue import FloatEpilogue, IntegerEpilogue
from sparse_rt_kernels.product.geometry import ConvGeometry
from sparse_rt_kernels.product.nchwc8 import NCHWc8
from sparse_rt_kernels.product.u8s8.operands import operands_for
from sparse_rt_kernels.product.u8s8.partition import Partition, worthwhile_threads
from sparse_rt_kernels.product.u8s8.sizes import CHANNELS, STEP
from sparse_rt_kernels.product.weight import PackedWeight, Panels
from sparse_rt_kernels.threads.launch import Launch, Phase

__all__ = ["prepare_image"]

_LINE = 64
#: What a thread takes longer that stages all rows for some channels: staging is about a twentieth of the work.
_STAGED_TWICE = 1.05


def _repeated(byte: int) -> int:
    """Return a byte in each of 8, as the signed integer that kernels take."""
    return int.from_bytes(bytes([byte & 255]) * 8, "little", signed=True)


def _partition(units: int, longest: float, blocks: int, threads: int, twice: float) -> Partition:
    """Split by units of rows or by blocks of channels, whichever leaves threads waiting for less.

    The last unit of an image is as long as `longest` others. By channels, every thread stages the same rows, for which
    it takes `twice` as long.
    """
    if threads == 1:
        return Partition(1, 1)
    if units >= 16 * threads:
        return Partition(2 * threads, 1)
    slowest_rows = (-(-units // threads) - 1 + longest) / (units - 1 + longest)
    slowest_channels = -(-blocks // threads) / blocks * twice
    return Partition(min(units, threads), 1) if slowest_rows <= slowest_channels else Partition(1, min(threads, blocks))


def _output(geometry: ConvGeometry, image: ImageBlocking, y: NCHWc8 | None) -> tuple[int, ...]:
    """Return the fields that say where outputs lie: planes, or blocks of 8 channels."""
    if y is None:
        plane = geometry.out_height * geometry.out_width
        return geometry.out_channels * plane, CHANNELS * plane, plane, image.numbers.out_width, 1, 0, 0, 0, 0, 0, 0
    row_bytes = STEP if image.is_flat else y.row_bytes
    block = CHANNELS // STEP * y.plane_bytes
    return y.image_bytes, block, y.plane_bytes, row_bytes, STEP, y.first_pixel, *y.border, _repeated(y.pad)


class _Scratch(NamedTuple):
    """Offsets into a thread's scratch memory; the image, if it is staged, begins it."""

    transposed: int
    controls: int
    places: int
    few_places: int
    end: int

    @classmethod
    def of(cls, channels: int, steps: int, image: ImageBlocking) -> "_Scratch":
        """Lay out what a task needs."""
        staged, transposed = channels // STEP * image.numbers.plane_bytes, image.transposed_bytes
        sizes = [-(-size // _LINE) * _LINE if image.numbers.is_staged else 0 for size in (staged, transposed)]
        lists = (image.most_tiles * PLACES_BYTES, image.most_few_tiles * PLACES_BYTES)
        return cls(*itertools.accumulate((*sizes, steps * _LINE, *lists)))


def prepare_image(
    geometry: ConvGeometry,
    image: ImageBlocking,
    types: tuple[np.dtype[Any], np.dtype[Any]],
    packed: PackedWeight[Panels],
    epilogue: FloatEpilogue | IntegerEpilogue,
    threads: int,
    y: NCHWc8 | None = None,
) -> Launch:
    """Prepare ``out = epilogue(conv(x, w))`` for bytes out and whole blocks of 16 channels.

    `types` are those of x and of out. Where `y` says how they lie, outputs are stored in blocks of 8 channels, and the
    border around them.
    """
    of, steps = image.numbers, packed.panels.values.shape[1]
    operands = operands_for(packed, epilogue, *types)
    workers = worthwhile_threads(geometry.batch * of.out_height * of.out_width, packed.n, steps, threads)
    longest = of.out_height / of.unit_rows - of.units + 1
    twice = _STAGED_TWICE if of.is_staged else 1.0
    parts = _partition(geometry.batch * of.units, longest, packed.n // CHANNELS, workers, twice)
    scratch = _Scratch.of(geometry.channels, steps, image)
    record = (
        *parts,
        geometry.batch,
        geometry.channels,
        packed.n,
        _repeated(int(geometry.pad_value) ^ operands.shift),
        _repeated(operands.shift),
        *of,
        image.words.ctypes.data,
        *packed.addresses[:2],
        steps,
        *operands,
        *scratch[:-1],
        *_output(geometry, image, y),
    )
    task = nchwc8_task(of.run, of.distance, PLANES if y is None else BLOCKS)
    phase = Phase(task, np.array([record], NCHWC8), parts.tasks)
    constants = (*packed.addresses, *epilogue.constants)
    return Launch([phase], 0, scratch.end, keep=(packed, epilogue, image), constants=constants)
