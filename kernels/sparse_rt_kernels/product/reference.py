"""Readable definitions of what the kernels compute, from canonical weights, in plain Python and NumPy.

Integers are exact. Floats are summed in float64 and rounded once, so a kernel may differ by its own rounding.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_rt_kernels.product.epilogue import FloatEpilogue, IntegerEpilogue
from sparse_rt_kernels.product.geometry import ConvGeometry
from sparse_rt_kernels.product.weight import CHANNEL_MULTIPLE

__all__ = ["conv", "matmul"]

Epilogue = FloatEpilogue | IntegerEpilogue


def matmul(
    x: NDArray[Any], values: NDArray[Any], index: NDArray[np.uint8], epilogue: Epilogue, dtype: Any
) -> NDArray[Any]:
    """Return ``epilogue(x @ w.T)``, (m, n) of `dtype`.

    Parameters
    ----------
    x
        (m, columns); what lies beyond its last column counts as zero.
    values, index
        Canonical 2:4 weight: (n, k / 2), and (n, ceil(k / 8)) with four 2-bit indexes a byte, first in the low bits.
        Of every 4 columns e0..e3 the first value belongs to e[i0], the second to e[i1 + 1]. Equal elements add up.
    epilogue, dtype
        What becomes of the sums; see :mod:`sparse_rt_kernels.product.epilogue`.
    """
    wide = np.int64 if isinstance(epilogue, IntegerEpilogue) else np.float64
    columns = x.astype(wide).T
    sums = np.zeros((len(values), len(x)), wide)
    for channel, row in enumerate(values.astype(wide)):
        for slot in np.flatnonzero(row):
            named = (int(index[channel, slot // 4]) >> (2 * (slot % 4))) & 3
            column = 4 * (slot // 2) + slot % 2 + named
            if column < len(columns):
                sums[channel] += columns[column] * row[slot]
    return _finish(sums.T, epilogue, np.dtype(dtype))


def conv(
    x: NDArray[Any],
    geometry: ConvGeometry,
    values: NDArray[Any],
    index: NDArray[np.uint8],
    epilogue: Epilogue,
    dtype: Any,
) -> NDArray[Any]:
    """Return the convolution of x (b, c, h, w), (b, n, oh, ow) of `dtype`: a matmul of what each output pixel reads."""
    g = geometry
    depth = g.padded_channels(CHANNEL_MULTIPLE)
    patches = np.zeros((g.batch, g.out_height, g.out_width, *g.kernel, depth), x.dtype)
    for p in range(g.out_height):
        for q in range(g.out_width):
            for r in range(g.kernel[0]):
                for s in range(g.kernel[1]):
                    row = p * g.strides[0] - g.pads[0] + r * g.dilations[0]
                    column = q * g.strides[1] - g.pads[1] + s * g.dilations[1]
                    patches[:, p, q, r, s, : g.channels] = _pixel(x, g, row, column)
    rows = patches.reshape(g.batch * g.out_height * g.out_width, g.kernel[0] * g.kernel[1] * depth)
    out = matmul(rows, values, index, epilogue, dtype)
    images = out.reshape(g.batch, g.out_height, g.out_width, g.out_channels)
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def _pixel(x: NDArray[Any], geometry: ConvGeometry, row: int, column: int) -> NDArray[Any] | int:
    """Return the channels (b, c) at a place of the zero-stuffed, unpadded input, or the padding value."""
    down, right = geometry.input_stride
    if row < 0 or column < 0 or row % down or column % right:
        return geometry.pad_value
    row, column = row // down, column // right
    if row >= geometry.height or column >= geometry.width:
        return geometry.pad_value
    pixel: NDArray[Any] = x[:, :, row, column]
    return pixel


def _finish(sums: NDArray[Any], epilogue: Epilogue, dtype: np.dtype[Any]) -> NDArray[Any]:
    if isinstance(epilogue, FloatEpilogue):
        total = (sums + epilogue.bias).astype(dtype)
        clipped: NDArray[Any] = np.minimum(np.maximum(total, np.float32(epilogue.low)), np.float32(epilogue.high))
        return clipped
    totals = (sums + epilogue.offset.astype(np.int64)).astype(np.int32)  # modulo 2**32
    if dtype == np.int32:
        return totals
    scaled: NDArray[np.float32] = totals.astype(np.float32) * epilogue.scale + epilogue.bias
    scaled = np.minimum(np.maximum(scaled, np.float32(epilogue.low)), np.float32(epilogue.high))
    if dtype == np.float32:
        return scaled
    limits = np.iinfo(dtype)
    # np.rint rounds half to even. float64 holds any float32 plus a zero point, so that nothing overflows on the way.
    shifted = np.rint(scaled.astype(np.float64)) + epilogue.zero_point
    saturated: NDArray[Any] = np.minimum(np.maximum(shifted, limits.min), limits.max).astype(dtype)
    return saturated
