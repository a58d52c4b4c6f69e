"""The int8 2:4 kernel as plain loops: for every CPU, and for Python without the JIT. Lanes are activation rows."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sparse_rt_kernels.jit.compilation import kernel_jit
from sparse_rt_kernels.n2m4_u8s8 import weight as layout
from sparse_rt_kernels.n2m4_u8s8.weight import CHANNELS, STEP
from sparse_rt_kernels.product.epilogue import FloatEpilogue, IntegerEpilogue
from sparse_rt_kernels.product.geometry import ConvGeometry
from sparse_rt_kernels.product.indirection import Indirection, indirection_of, lane_offsets, lane_origins
from sparse_rt_kernels.product.registry import Kernel, prepared_conv, prepared_matmul
from sparse_rt_kernels.product.u8s8.clipping import clip_bounds
from sparse_rt_kernels.product.weight import Indexed, PackedWeight, Panels
from sparse_rt_kernels.threads.pool import ThreadPool
from sparse_rt_kernels.threads.workspace import scratch

__all__ = ["PORTABLE"]

#: Activation rows of a panel.
LANES: Final = 64
NAME: Final = f"u8s8_n2m4_gemm_{LANES}x{CHANNELS}__generic"


@kernel_jit
def _rows_into_panel(x: NDArray[Any], first: int, panel: NDArray[np.int16]) -> int:
    """``panel[k, l] = x[first + l, k]``, zero beyond x."""
    panel[:] = 0
    for lane in range(min(LANES, x.shape[0] - first)):
        for k in range(x.shape[1]):
            panel[k, lane] = x[first + lane, k]
    return 0


@kernel_jit
def _pixels_into_panel(
    image: NDArray[Any],
    indirection: Indirection,
    pad: int,
    first: int,
    panel: NDArray[np.int16],
    lanes: NDArray[np.int32],
) -> int:
    """``panel[k, l]`` = what output pixel first + l reads of `image` (c, h * w) at reduction index k, or `pad`."""
    panel[:] = 0
    depth = (indirection.channels + 3) // 4 * 4
    lane_origins(indirection, first, lanes[0], lanes[1])
    for position in range(indirection.kernel_rows * indirection.kernel_columns):
        lane_offsets(indirection, position, lanes[0], lanes[1], lanes[2])
        for channel in range(indirection.channels):
            row = position * depth + channel
            for lane in range(LANES):
                offset = lanes[2, lane]
                panel[row, lane] = image[channel, offset] if offset >= 0 else pad
    return 0


@kernel_jit
def _multiply_block(
    panel: NDArray[np.int16], values: NDArray[np.int8], index: NDArray[np.uint8], sums: NDArray[np.int32]
) -> int:
    """``sums[c, l] = sum_s sum_j values[s, c, j] * panel[row(s, c, j), l]`` for one block of 16 channels.

    ``row(s, c, j) = 8 s + (0, 1, 4, 5)[j] + (index[s, c] >> 2 j & 3)``.
    """
    sums[:] = 0
    for channel in range(CHANNELS):
        for step in range(values.shape[0]):
            bits = np.intp(index[step, channel])
            first = step * STEP
            row0 = first + (bits & 3)
            row1 = first + 1 + (bits >> 2 & 3)
            row2 = first + 4 + (bits >> 4 & 3)
            row3 = first + 5 + (bits >> 6)
            value0 = np.int16(values[step, channel, 0])
            value1 = np.int16(values[step, channel, 1])
            value2 = np.int16(values[step, channel, 2])
            value3 = np.int16(values[step, channel, 3])
            for lane in range(LANES):
                # A product of two bytes, one of them signed, fits 16 bits: half as many vectors are multiplied.
                sums[channel, lane] += (
                    np.int32(np.int16(value0 * panel[row0, lane]))
                    + np.int16(value1 * panel[row1, lane])
                    + np.int16(value2 * panel[row2, lane])
                    + np.int16(value3 * panel[row3, lane])
                )
    return 0


@kernel_jit
def _finish_int32(
    sums: NDArray[np.int32], offset: NDArray[np.int32], channel: int, out: NDArray[np.int32], first: int
) -> int:
    """``out[c, p] = sums[c, p] + offset[c]``, wrapping, for the channels and pixels that `out` has."""
    lanes = min(LANES, out.shape[1] - first)
    for c in range(channel, min(channel + CHANNELS, out.shape[0])):
        out[c, first : first + lanes] = sums[c - channel, :lanes] + offset[c]
    return 0


@kernel_jit
def _finish_scaled(
    sums: NDArray[np.int32],
    operands: tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]],
    low: float,
    high: float,
    rounded: bool,
    zero_point: int,
    channel: int,
    out: NDArray[Any],
    first: int,
) -> int:
    """Scale, add, clip and, if `rounded`, round half to even plus `zero_point`; see :class:`IntegerEpilogue`."""
    offset, scale, bias = operands
    least, most = np.float32(low), np.float32(high)
    lanes = min(LANES, out.shape[1] - first)
    for c in range(channel, min(channel + CHANNELS, out.shape[0])):
        totals = (sums[c - channel, :lanes] + offset[c]).astype(np.float32)
        for lane in range(lanes):
            # Two statements, so that nothing invites a fused multiply-add.
            product = totals[lane] * scale[c]
            value = product + bias[c]
            if rounded:
                value = value if value > least else least
                value = value if value < most else most
                out[c, first + lane] = np.intp(np.rint(value)) + zero_point
            else:
                value = least if value < least else value
                out[c, first + lane] = most if value > most else value
    return 0


def _unwritable(array: NDArray[Any]) -> NDArray[Any]:
    """Return a view that Numba sees as one type, whether or not the caller may write to the array."""
    view = array.view()
    view.flags.writeable = False
    return view


def _finisher(epilogue: FloatEpilogue | IntegerEpilogue, dtype: np.dtype[Any]) -> Callable[..., None]:
    """Return what stores a block of sums: ``finish(sums, first channel, out (n, pixels), first pixel)``."""
    if not isinstance(epilogue, IntegerEpilogue):
        raise TypeError(f"{NAME}: expected an IntegerEpilogue, got {type(epilogue).__name__}.")
    offset = _unwritable(epilogue.offset)
    if dtype == np.int32:

        def finish_int32(sums: Any, channel: int, out: NDArray[Any], first: int) -> None:
            _finish_int32(sums, offset, channel, out, first)

        return finish_int32
    operands = (offset, _unwritable(epilogue.scale), _unwritable(epilogue.bias))
    low, high = clip_bounds(epilogue, dtype)
    rounded, zero_point = dtype.itemsize == 1, int(epilogue.zero_point)

    def finish_scaled(sums: Any, channel: int, out: NDArray[Any], first: int) -> None:
        _finish_scaled(sums, operands, low, high, rounded, zero_point, channel, out, first)

    return finish_scaled


def _product(
    packed: PackedWeight[Panels],
    fill: Callable[[int, int, NDArray[np.int16], NDArray[np.int32]], None],
    finish: Callable[..., None],
    outs: list[NDArray[Any]],
    pool: ThreadPool,
) -> None:
    """Multiply panel by panel: ``fill(image, first pixel, panel, lanes)``, then every channel block, into `outs`.

    `outs` holds one (n, pixels) array an image. Tasks are panels, and halves of the channels where panels are few.
    """
    blocks, steps = packed.panels.values.shape[:2]
    panels = -(-outs[0].shape[1] // LANES)
    parts = 1 if len(outs) * panels >= 2 * pool.threads else min(blocks, pool.threads)

    def task(number: int) -> None:
        job, part = divmod(number, parts)
        image, first = job // panels, job % panels * LANES
        panel = scratch("u8s8 portable panel", steps * STEP * LANES * 2).view(np.int16)
        panel = panel[: steps * STEP * LANES].reshape(steps * STEP, LANES)
        sums = scratch("u8s8 portable sums", CHANNELS * LANES * 4).view(np.int32).reshape(CHANNELS, LANES)
        lanes = scratch("u8s8 portable lanes", 3 * LANES * 4).view(np.int32).reshape(3, LANES)
        fill(image, first, panel, lanes)
        for block in range(blocks * part // parts, blocks * (part + 1) // parts):
            _multiply_block(panel, packed.panels.values[block], packed.panels.indexes[block], sums)
            finish(sums, block * CHANNELS, outs[image], first)

    pool.run(task, len(outs) * panels * parts)


def matmul(
    x: NDArray[Any],
    packed: PackedWeight[Panels],
    epilogue: FloatEpilogue | IntegerEpilogue,
    out: NDArray[Any],
    pool: ThreadPool,
) -> None:
    """``out = epilogue(x @ w.T)``; see :class:`.registry.Kernel` and docs/kernels/contract.md."""
    finish = _finisher(epilogue, out.dtype)
    if not out.size:
        return
    source = _unwritable(x)

    def fill(_: int, first: int, panel: NDArray[np.int16], __: NDArray[np.int32]) -> None:
        _rows_into_panel(source, first, panel)

    _product(packed, fill, finish, [out.T], pool)


def conv(
    x: NDArray[Any],
    geometry: ConvGeometry,
    packed: PackedWeight[Panels],
    epilogue: FloatEpilogue | IntegerEpilogue,
    out: NDArray[Any],
    pool: ThreadPool,
) -> None:
    """``out = epilogue(conv(x, w))``; see :class:`.registry.Kernel` and docs/kernels/contract.md."""
    finish = _finisher(epilogue, out.dtype)
    if not out.size:
        return
    indirection, pad = indirection_of(geometry), int(geometry.pad_value)
    planes = (geometry.batch, geometry.channels, geometry.height * geometry.width)
    images = _unwritable(x.reshape(planes))

    def fill(image: int, first: int, panel: NDArray[np.int16], lanes: NDArray[np.int32]) -> None:
        _pixels_into_panel(images[image], indirection, pad, first, panel, lanes)

    _product(packed, fill, finish, list(out.reshape(geometry.batch, packed.n, -1)), pool)


def _pack(weight: Indexed) -> PackedWeight[Panels]:
    return layout.pack(NAME, weight)


PORTABLE = Kernel(NAME, "u8s8", "n2m4", LANES, CHANNELS, "generic", _pack, prepared_matmul(matmul), prepared_conv(conv))
