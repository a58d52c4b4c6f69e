"""Prepare dense convolutions that pack nothing: the record that their tasks share."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sparse_rt_kernels.between.direct_convolution.layout import StagedImage, staged_image_of
from sparse_rt_kernels.between.direct_convolution.tasks import CONVOLUTION, convolution_task
from sparse_rt_kernels.between.direct_convolution.tile import CHANNELS, PIXELS
from sparse_rt_kernels.product.epilogue import FloatEpilogue, IntegerEpilogue
from sparse_rt_kernels.product.geometry import ConvGeometry
from sparse_rt_kernels.product.u8s8.operands import operands_for
from sparse_rt_kernels.product.weight import CHANNEL_MULTIPLE, PackedWeight, Panels
from sparse_rt_kernels.threads.launch import Launch, Phase
from sparse_rt_kernels.threads.workspace import aligned_empty

__all__ = ["prepare_bytes", "prepare_floats"]

#: Reduction words of tiles that are worth a task of their own: about 4 us, at 14 cycles a word of a full tile.
_TASK_WORDS: Final = 1200
#: Below so many output rows a thread, channels are split instead: then every thread stages the same rows.
_ROWS: Final = 2


def _parts(geometry: ConvGeometry, steps: int, threads: int) -> tuple[int, int]:
    """Return into how many ranges of rows, and of pairs of blocks of channels, a convolution is cut."""
    rows, pairs = geometry.batch * geometry.out_height, -(-geometry.out_channels // (2 * CHANNELS))
    work = rows * -(-geometry.out_width // PIXELS) * pairs * steps
    workers = max(1, min(threads, work // _TASK_WORDS))
    if workers == 1 or rows >= _ROWS * workers:
        # Twice as many tasks as threads where they stay large: one core may be slower, or busy elsewhere.
        return (2 * workers if workers > 1 and rows >= 16 * workers else workers), 1
    return 1, min(workers, pairs)


def _launch(
    geometry: ConvGeometry,
    image: StagedImage,
    is_float: int,
    pad: tuple[int, int],
    weight: tuple[int, int],
    epilogue: tuple[Any, ...],
    threads: int,
    keep: tuple[object, ...],
) -> Launch:
    """Prepare a call; `pad` is a word of padding and a byte that shifts, `weight` its address and a block's bytes."""
    parts = _parts(geometry, len(image.words), threads)
    record = (
        *parts,
        geometry.batch,
        geometry.channels,
        geometry.out_channels,
        *pad,
        geometry.height,
        geometry.width,
        geometry.out_height,
        geometry.out_width,
        geometry.strides[0],
        *geometry.pads[:2],
        image.planes,
        image.padded_width,
        image.reach,
        image.chunk_rows,
        image.row_bytes,
        image.plane_bytes,
        image.words.ctypes.data,
        len(image.words),
        *weight,
        *epilogue,
    )
    phase = Phase(convolution_task(is_float, image.distance), np.array([record], CONVOLUTION), parts[0] * parts[1])
    return Launch([phase], 0, image.image_bytes, keep=(image, *keep))


def prepare_bytes(
    geometry: ConvGeometry,
    x_dtype: np.dtype[Any],
    out_dtype: np.dtype[Any],
    packed: PackedWeight[Panels],
    epilogue: FloatEpilogue | IntegerEpilogue,
    threads: int,
) -> Launch | None:
    """Prepare ``out = epilogue(conv(x, w))`` for bytes, AVX-512 VNNI; None if it needs another way.

    `packed` is that of the int8 tiles of any vector width: a word of 16 channels is 64 bytes.
    """
    operands = operands_for(packed, epilogue, x_dtype, out_dtype)
    image = staged_image_of(geometry, 4)
    if image is None or out_dtype.itemsize > 1 or packed.n % CHANNELS:
        return None
    shift = operands.shift
    word = int.from_bytes(bytes([(int(geometry.pad_value) ^ shift) & 255]) * 4, "little")
    weight = (packed.addresses[0], packed.panels.values[0].nbytes)
    return _launch(geometry, image, 0, (word, shift), weight, operands, threads, (packed, epilogue))


def _blocks(packed: PackedWeight[Panels], geometry: ConvGeometry) -> NDArray[np.float32]:
    """Return the weight as (n / 16, words, 16) float32, without the channels that it was padded to."""
    tiles, octets, slots, channels = packed.panels.values.shape
    matrix = packed.panels.values.transpose(0, 3, 1, 2).reshape(tiles * channels, octets * slots)[
        : packed.n, : packed.k
    ]
    present = matrix.reshape(packed.n, -1, geometry.padded_channels(CHANNEL_MULTIPLE))[..., : geometry.channels]
    transposed = present.reshape(packed.n // CHANNELS, CHANNELS, -1).transpose(0, 2, 1)
    blocks = aligned_empty(transposed.size * 4).view(np.float32).reshape(transposed.shape)
    blocks[...] = transposed
    return blocks


def prepare_floats(
    geometry: ConvGeometry, packed: PackedWeight[Panels], epilogue: FloatEpilogue, threads: int
) -> Launch | None:
    """Prepare ``out = epilogue(conv(x, w))`` for float32, AVX-512; None if it needs another way.

    `packed` is that of :mod:`sparse_rt_kernels.tiled_f32.weight.dense`; what is multiplied is laid out anew.
    """
    image = staged_image_of(geometry, 1)
    if image is None or packed.n % CHANNELS:
        return None
    blocks = _blocks(packed, geometry)
    weight = (blocks.ctypes.data, blocks[0].nbytes)
    finish = (0, 0, 0, 0, epilogue.bias.ctypes.data, float(epilogue.low), float(epilogue.high), 0, 0)
    return _launch(geometry, image, 1, (0, 0), weight, finish, threads, (blocks, epilogue))
