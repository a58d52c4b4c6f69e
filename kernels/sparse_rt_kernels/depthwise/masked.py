"""The float32 3x3 depthwise convolution of stride 1 whose rows keep their width: padding is masked, not copied."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sparse_rt_kernels import isa
from sparse_rt_kernels.caches import level1_bytes
from sparse_rt_kernels.compiler import carray
from sparse_rt_kernels.depthwise.masked_micro import convolve_masked
from sparse_rt_kernels.epilogue import FloatEpilogue
from sparse_rt_kernels.geometry import ConvGeometry
from sparse_rt_kernels.jit import kernel_jit
from sparse_rt_kernels.launch import Launch, Phase
from sparse_rt_kernels.planes import plane_range, plane_tasks

__all__ = ["can_mask", "prepare_masked"]

_FIELDS: Final = (
    *("planes", "tasks", "channels", "taps", "source_plane", "pixels", "offsets", "masks", "first", "last", "careful"),
    *("weights", "bias"),
)
_MASKED: Final = np.dtype([*((name, "i8") for name in _FIELDS), ("low", "f8"), ("high", "f8")])
_LANES: Final = 16


def can_mask(geometry: ConvGeometry) -> bool:
    """Return whether this kernel takes a convolution: AVX-512, 3x3, stride 1, output rows as long as input rows."""
    taps = geometry.kernel[0] * geometry.kernel[1]
    masks = geometry.out_height * geometry.out_width // _LANES * taps * 2
    return (
        isa.fits("avx512", isa.cpu_features())
        and geometry.kernel == (3, 3)
        and geometry.strides == (1, 1)
        and geometry.out_width == geometry.width
        and geometry.pads[1] == geometry.kernel[1] // 2 * geometry.dilations[1]
        and masks <= level1_bytes() // 2
    )


@kernel_jit
def _convolve(a: Any, first: int, planes: int, is_careful: bool, x: int, out: int) -> int:
    """Convolve some planes of one image."""
    source, step, target, pixels = x + first * a.source_plane, a.source_plane, out + first * a.pixels * 4, a.pixels
    offsets, masks, begin, end, low, high = a.offsets, a.masks, a.first, a.last, np.float32(a.low), np.float32(a.high)
    weights, bias = a.weights + first % a.channels * a.taps * 4, a.bias + first % a.channels * 4
    if is_careful:
        return convolve_masked(
            3, 1, planes, source, step, target, pixels, offsets, masks, begin, end, weights, bias, low, high
        )
    return convolve_masked(
        3, 0, planes, source, step, target, pixels, offsets, masks, begin, end, weights, bias, low, high
    )


def _masked_task(task: int, arguments: Any, x: int, other: int, out: int, shared: int, scratch: int) -> int:
    """Convolve one task's planes, those of one image at a time, the first and the last of the input carefully."""
    a = carray(arguments, (1,), _MASKED)[0]
    first, last = plane_range(task, a.tasks, a.planes)
    while first < last:
        at_edge = first < a.careful or first >= a.planes - a.careful
        planes = 1 if at_edge else min(min(last, a.planes - a.careful) - first, a.channels - first % a.channels)
        _convolve(a, first, planes, at_edge, x, out)
        first += planes
    return 0


def _masks(geometry: ConvGeometry) -> NDArray[np.uint16]:
    """Return which of 16 output pixels find each tap within the plane, (vectors, taps)."""
    g = geometry
    taps = np.arange(g.kernel[0] * g.kernel[1])
    pixels = np.arange(g.out_height * g.out_width)[:, None]
    rows = pixels // g.out_width - g.pads[0] + taps // g.kernel[1] * g.dilations[0]
    columns = pixels % g.out_width - g.pads[1] + taps % g.kernel[1] * g.dilations[1]
    inside = (rows >= 0) & (rows < g.height) & (columns >= 0) & (columns < g.width)
    padded = np.zeros((-(-len(pixels) // _LANES) * _LANES, taps.size), np.uint16)
    padded[: len(pixels)] = inside
    bits = padded.reshape(-1, _LANES, taps.size) << np.arange(_LANES, dtype=np.uint16)[:, None]
    return np.ascontiguousarray(bits.sum(axis=1, dtype=np.uint16))


def _vectors_with_all_rows(geometry: ConvGeometry) -> tuple[int, int]:
    """Return the first vector whose pixels find all rows of the kernel, and the first after those; never the last."""
    g = geometry
    top = max(0, g.pads[0])
    bottom = min(g.out_height, g.height + g.pads[0] - (g.kernel[0] - 1) * g.dilations[0])
    vectors = (g.out_height * g.out_width - 1) // _LANES
    first = min(vectors, -(-top * g.out_width // _LANES))
    return first, max(first, min(vectors, bottom * g.out_width // _LANES))


def prepare_masked(
    geometry: ConvGeometry, weight: NDArray[np.float32], epilogue: FloatEpilogue, threads: int
) -> Launch:
    """See :func:`sparse_rt_kernels.depthwise.prepare_depthwise`; :func:`can_mask` must hold."""
    g = geometry
    masks, weights = _masks(g), np.array(weight, np.float32, order="C")
    places = [
        (row * g.dilations[0] - g.pads[0]) * g.width + column * g.dilations[1] - g.pads[1]
        for row in range(g.kernel[0])
        for column in range(g.kernel[1])
    ]
    offsets = np.array(places, np.int64) * 4
    planes, pixels = g.batch * g.channels, g.out_height * g.out_width
    # Vectors reach so many items beyond the plane, into so many planes of neighbours.
    reach = max(0, -min(places), masks.shape[0] * _LANES + max(places) - g.height * g.width)
    careful = -(-reach // (g.height * g.width))
    # At 4 GHz: a load, a mask and an FMA for each vector and tap; 2 loads a cycle.
    tasks = plane_tasks(planes, masks.size / 4 + 5, threads)
    record = (
        *(planes, tasks, g.channels, offsets.size, g.height * g.width * 4, pixels),
        *(
            offsets.ctypes.data,
            masks.ctypes.data,
            *_vectors_with_all_rows(g),
            careful,
            weights.ctypes.data,
            epilogue.bias.ctypes.data,
        ),
        *(epilogue.low, epilogue.high),
    )
    phase = Phase(_masked_task, np.array([record], _MASKED), tasks)
    return Launch([phase], keep=(offsets, masks, weights, epilogue))
