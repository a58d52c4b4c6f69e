"""Prepare convolutions over octet images: the record that their tasks share."""

from typing import Any

import numpy as np

from sparse_rt_kernels.n2m4_u8s8.blocking.nchwc8 import OctetImage
from sparse_rt_kernels.n2m4_u8s8.task.nchwc8 import IMAGE, image_task
from sparse_rt_kernels.n2m4_u8s8.tile.nchwc8 import PLACES_BYTES
from sparse_rt_kernels.n2m4_u8s8.tile.nchwc8_store import BLOCKS, PLANES
from sparse_rt_kernels.product.epilogue import FloatEpilogue, IntegerEpilogue
from sparse_rt_kernels.product.geometry import ConvGeometry
from sparse_rt_kernels.product.nchwc8 import NCHWc8
from sparse_rt_kernels.product.u8s8.clipping import clip_bounds
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


def _output(geometry: ConvGeometry, image: OctetImage, y: NCHWc8 | None) -> tuple[int, ...]:
    """Return the fields that say where outputs lie: planes, or blocks of 8 channels."""
    if y is None:
        plane = geometry.out_height * geometry.out_width
        return geometry.out_channels * plane, CHANNELS * plane, plane, image.out_width, 1, 0, 0, 0, 0, 0, 0
    row_bytes = STEP if image.is_flat else y.row_bytes
    block = CHANNELS // STEP * y.plane_bytes
    return y.image_bytes, block, y.plane_bytes, row_bytes, STEP, y.first_pixel, *y.border, _repeated(y.pad)


def prepare_image(
    geometry: ConvGeometry,
    image: OctetImage,
    x_dtype: np.dtype[Any],
    out_dtype: np.dtype[Any],
    packed: PackedWeight[Panels],
    epilogue: FloatEpilogue | IntegerEpilogue,
    threads: int,
    y: NCHWc8 | None = None,
) -> Launch:
    """Prepare ``out = epilogue(conv(x, w))`` for bytes out and whole blocks of 16 channels.

    Where `y` says how they lie, outputs are stored in blocks of 8 channels, and the border around them.
    """
    if not isinstance(epilogue, IntegerEpilogue):
        raise TypeError(f"{packed.kernel}: expected an IntegerEpilogue, got {type(epilogue).__name__}.")
    low, high = clip_bounds(epilogue, out_dtype)
    offset, scale, bias = epilogue.addresses
    shift = 128 if x_dtype.char == "b" else 0
    sign = 128 if out_dtype.char == "b" else 0
    steps = packed.panels.values.shape[1]
    rows = geometry.batch * image.out_height * image.out_width
    workers = worthwhile_threads(rows, packed.n, steps, threads)
    longest = image.out_height / image.unit_rows - image.units + 1
    twice = _STAGED_TWICE if image.is_staged else 1.0
    parts = _partition(geometry.batch * image.units, longest, packed.n // CHANNELS, workers, twice)
    turned = -(-geometry.channels // 8 * image.plane_bytes // _LINE) * _LINE if image.is_staged else 0
    controls = turned + (-(-image.turned_bytes // _LINE) * _LINE if image.is_staged else 0)
    places = controls + steps * _LINE
    few_places = places + image.most_tiles * PLACES_BYTES
    record = (
        *parts,
        geometry.batch,
        geometry.channels,
        packed.n,
        _repeated(int(geometry.pad_value) ^ shift),
        _repeated(shift),
        image.run,
        image.height,
        image.width,
        image.out_height,
        image.out_width,
        image.unit_rows,
        image.units,
        image.most_units,
        image.capacity_rows,
        image.row_stride,
        image.row_step,
        image.reach,
        image.top,
        image.left,
        image.padded_width,
        image.phases,
        image.keeps_odd,
        image.phase_bytes,
        image.row_bytes,
        image.plane_bytes,
        image.turned_rows,
        image.distance,
        image.is_staged,
        image.image_bytes,
        image.origin,
        image.words.ctypes.data,
        *packed.addresses[:2],
        steps,
        offset,
        packed.addresses[2],
        shift,
        scale,
        bias,
        low,
        high,
        epilogue.zero_point,
        sign,
        turned,
        controls,
        places,
        few_places,
        *_output(geometry, image, y),
    )
    task = image_task(image.run, image.distance, PLANES if y is None else BLOCKS)
    phase = Phase(task, np.array([record], IMAGE), parts.tasks)
    constants = (*packed.addresses, *epilogue.constants)
    scratch_bytes = few_places + image.most_few_tiles * PLACES_BYTES
    return Launch([phase], 0, scratch_bytes, keep=(packed, epilogue, image), constants=constants)
