"""Where a convolution's rows lie in a staged image, done once for each geometry, and the phase that stages it."""

import functools
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sparse_rt_kernels.product.geometry import ConvGeometry
from sparse_rt_kernels.product.u8s8.staging_task import STAGE, stage_task
from sparse_rt_kernels.product.weight import CHANNEL_MULTIPLE
from sparse_rt_kernels.threads.launch import Phase

__all__ = ["Staging", "sign_bits", "stage_phase", "staging_of"]

#: What turns int8 into uint8, in each of 8 bytes.
_SIGN_BITS: Final = int.from_bytes(b"\x80" * 8, "little", signed=True)
#: Bytes of a staged image that are worth a task of their own.
_STAGED_BYTES: Final = 32 * 1024


@dataclass(frozen=True, slots=True, eq=False)
class Staging:
    """Where a convolution's rows and reduction elements lie in the staged, padded, channels-last image.

    Attributes
    ----------
    depth
        Bytes of a pixel: the channels rounded up to a multiple of 4.
    source_height, source_width
        Of the input as it is staged: an input that is not padded is one long row of pixels.
    padded_height, padded_width
        Of the staged image.
    pixel_stride, row_stride, image_bytes
        Bytes from one output column, output row, image to the next.
    words, words_address
        (2 * steps,) int32, ascending: offset of each 4 reduction elements.
    """

    depth: int
    source_height: int
    source_width: int
    padded_height: int
    padded_width: int
    pixel_stride: int
    row_stride: int
    image_bytes: int
    words: NDArray[np.int32]
    words_address: int


@functools.lru_cache(maxsize=512)
def staging_of(geometry: ConvGeometry) -> Staging:
    """Return the staging of a convolution whose output is not empty."""
    depth = geometry.padded_channels(CHANNEL_MULTIPLE)
    row_bytes = geometry.padded_width * depth
    rows = np.arange(geometry.kernel[0]) * geometry.dilations[0] * row_bytes
    columns = np.arange(geometry.kernel[1]) * geometry.dilations[1] * depth
    channels = np.arange(0, depth, 4)
    words = (rows[:, None, None] + columns[:, None] + channels).ravel()
    # The weight is padded to whole steps of 8, at least one; what its zeros meet is read, so staging has slack.
    if not len(words):
        words = np.array([0])
    if len(words) % 2:
        words = np.append(words, words[-1] + 4)
    words = words.astype(np.int32)
    flat = geometry.pads == (0, 0, 0, 0) and geometry.input_stride == (1, 1)
    height, width = geometry.height, geometry.width
    padded_height, padded_width = geometry.padded_height, geometry.padded_width
    return Staging(
        depth,
        1 if flat else height,
        height * width if flat else width,
        1 if flat else padded_height,
        padded_height * padded_width if flat else padded_width,
        geometry.strides[1] * depth,
        geometry.strides[0] * row_bytes,
        padded_height * row_bytes,
        words,
        words.ctypes.data,
    )


def sign_bits(x_dtype: np.dtype[Any]) -> int:
    """Return what 8 bytes of activations are xor-ed with to be uint8, as the signed integer that kernels take."""
    return _SIGN_BITS if x_dtype.char == "b" else 0


def stage_phase(
    geometry: ConvGeometry, staging: Staging, images: int, x_offset: int, x_dtype: np.dtype[Any], threads: int
) -> Phase:
    """Return the phase that stages some images, in as many tasks as their bytes are worth."""
    rows = images * staging.padded_height
    parts = max(1, min(rows, threads, images * staging.image_bytes // _STAGED_BYTES))
    flip = sign_bits(x_dtype)
    record = (
        rows,
        parts,
        x_offset,
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
    )
    return Phase(stage_task, np.array([record], STAGE), parts)
