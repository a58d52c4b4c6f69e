"""What one thread does in a call of the portable int8 kernel: a panel of 64 rows, multiplied by blocks of channels."""

import functools
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sparse_rt_kernels.jit.compilation import TaskFunction, kernel_jit
from sparse_rt_kernels.jit.compiler import carray
from sparse_rt_kernels.n2m4_u8s8.tile.portable import LANES, multiply_block
from sparse_rt_kernels.n2m4_u8s8.weight import VALUES
from sparse_rt_kernels.product.indirection import Indirection, indirection_in, lane_offsets, lane_origins
from sparse_rt_kernels.product.u8s8.operands import BYTE, FLOAT32, INT32
from sparse_rt_kernels.product.u8s8.sizes import CHANNELS, STEP
from sparse_rt_kernels.threads.workspace import array_at

__all__ = ["CALL", "product_task", "task_bytes"]

#: A call. `parts` is into how many parts the channels of each panel are cut; `rows` are those of one image. Strides, in
#: bytes, and `columns` are those of a matrix product, `pad` and what follows the bounds are a convolution's.
CALL: Final = np.dtype(
    (
        np.record,
        [
            *((name, "i8") for name in ("values", "indexes", "offset", "scale", "bias", "zero_point", "n", "steps")),
            *((name, "i8") for name in ("rows", "panels", "parts", "x_stride", "columns", "out_stride", "pad")),
            *((name, "f8") for name in ("low", "high")),
            *((name, "i8") for name in Indirection._fields),
        ],
    )
)


def task_bytes(steps: int) -> int:
    """Return the scratch bytes of a task: a panel, the sums of a block, and what the lanes of a convolution read."""
    return steps * STEP * LANES * 2 + CHANNELS * LANES * 4 + 3 * LANES * 4


@kernel_jit
def _rows_into_panel(dtype: Any, x: int, stride: int, columns: int, rows: int, panel: NDArray[np.int16]) -> int:
    """``panel[k, l] = x[l, k]`` for `rows` rows of x, zero beyond them."""
    panel[:] = 0
    for lane in range(rows):
        row = array_at(x + lane * stride, (columns,), dtype)
        for k in range(columns):
            panel[k, lane] = row[k]
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
def _store(
    row: NDArray[Any],
    at: int,
    kind: int,
    total: int,
    factors: tuple[np.float32, np.float32],
    clip: tuple[np.float32, np.float32],
    zero_point: int,
) -> int:
    """``row[at]`` = the sum `total` as the epilogue has it: scaled, added to, clipped and, if a byte, rounded."""
    if kind == INT32:
        row[at] = total
        return 0
    # Two statements, so that nothing invites a fused multiply-add.
    product = np.float32(total) * factors[0]
    value = product + factors[1]
    if kind == BYTE:
        value = value if value > clip[0] else clip[0]
        value = value if value < clip[1] else clip[1]
        row[at] = np.intp(np.rint(value)) + zero_point
    else:
        value = clip[0] if value < clip[0] else value
        row[at] = clip[1] if value > clip[1] else value
    return 0


@functools.cache
def product_task(is_conv: int, x_dtype: np.dtype[Any], out_dtype: np.dtype[Any]) -> TaskFunction:
    """Return the task of a matrix product or a convolution: bytes `x_dtype` to int32, float32 or bytes `out_dtype`."""
    size = out_dtype.itemsize
    kind = BYTE if size == 1 else INT32 if out_dtype == np.int32 else FLOAT32

    def portable_task(task: int, arguments: Any, x: int, other: int, out: int, shared: int, scratch: int) -> int:
        """``out[m, n] = epilogue(sum_k x[m, k] w[n, k])`` for one panel of rows and one part of the channels."""
        r = carray(arguments, (1,), CALL)[0]
        job, part = task // r.parts, task % r.parts
        image, first = job // r.panels, job % r.panels * LANES
        rows = min(LANES, r.rows - first)
        panel = array_at(scratch, (r.steps * STEP, LANES), np.int16)
        scratch += r.steps * STEP * LANES * 2
        sums = array_at(scratch, (CHANNELS, LANES), np.int32)
        if is_conv:
            lanes = array_at(scratch + CHANNELS * LANES * 4, (3, LANES), np.int32)
            pixels = r.height * r.width
            read = array_at(x + image * r.channels * pixels, (r.channels, pixels), x_dtype)
            _pixels_into_panel(read, indirection_in(r), r.pad, first, panel, lanes)
        else:
            _rows_into_panel(x_dtype, x + first * r.x_stride, r.x_stride, r.columns, rows, panel)
        blocks = (r.n + CHANNELS - 1) // CHANNELS
        values = array_at(r.values, (blocks, r.steps, CHANNELS, VALUES), np.int8)
        indexes = array_at(r.indexes, (blocks, r.steps, CHANNELS), np.uint8)
        offset = array_at(r.offset, (r.n,), np.int32)
        scale, bias = array_at(r.scale, (r.n,), np.float32), array_at(r.bias, (r.n,), np.float32)
        clip = (np.float32(r.low), np.float32(r.high))
        for block in range(blocks * part // r.parts, blocks * (part + 1) // r.parts):
            multiply_block(panel, values[block], indexes[block], sums)
            for c in range(block * CHANNELS, min(block * CHANNELS + CHANNELS, r.n)):
                totals = sums[c - block * CHANNELS]
                totals += offset[c]
                factors = (scale[c], bias[c])
                if is_conv:
                    row = array_at(out + ((image * r.n + c) * r.rows + first) * size, (rows,), out_dtype)
                    for lane in range(rows):
                        _store(row, lane, kind, totals[lane], factors, clip, r.zero_point)
                else:
                    for lane in range(rows):
                        place = out + (first + lane) * r.out_stride
                        row = array_at(place, (r.n,), out_dtype)
                        _store(row, c, kind, totals[lane], factors, clip, r.zero_point)
        return 0

    return portable_task
