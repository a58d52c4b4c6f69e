"""The index arithmetic of a convolution over a staged image, done once for each geometry."""

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparse_rt_kernels.product.geometry import ConvGeometry
from sparse_rt_kernels.product.weight import CHANNEL_MULTIPLE

__all__ = ["Staging", "staging_of"]


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
