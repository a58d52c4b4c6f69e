"""Average pooling of bytes: columns of each window's rows are added up first, then the window's columns."""

from typing import Any, Final

import numpy as np

from sparse_rt_kernels.between.pooling.maxima import INT8, UINT8
from sparse_rt_kernels.between.pooling.totals import add_row, total_of_bytes
from sparse_rt_kernels.between.pooling.window import Window
from sparse_rt_kernels.jit.compilation import kernel_jit
from sparse_rt_kernels.jit.compiler import carray
from sparse_rt_kernels.threads.launch import Launch, Phase
from sparse_rt_kernels.threads.planes import plane_range, plane_tasks
from sparse_rt_kernels.threads.workspace import as_pointer
from sparse_rt_kernels.vectors.quantisation import Quantisation

__all__ = ["prepare_quantised_average_pool"]

_ITEMS: Final = {"B": UINT8, "b": INT8}
_FIELDS: Final = (
    *("planes", "tasks", "item", "height", "width", "out_height", "out_width", "top", "left"),
    *("kernel_rows", "kernel_columns", "down", "across", "is_whole", "counts_padding", "bottom_edge", "right_edge"),
    *("x_zero_point", "zero_point", "least", "most"),
)
#: `bottom_edge` and `right_edge` are where padding ends.
_AVERAGE_POOL: Final = np.dtype([*((name, "i8") for name in _FIELDS), ("x_scale", "f4"), ("scale", "f4")])


@kernel_jit
def _extent(a: Any, number: int, axis: int) -> tuple[int, int, int]:
    """Return the first row (axis 0) or column that window `number` covers, the first after it, and its divisor."""
    if axis == 0:
        begin, kernel, size, edge = number * a.down - a.top, a.kernel_rows, a.height, a.bottom_edge
    else:
        begin, kernel, size, edge = number * a.across - a.left, a.kernel_columns, a.width, a.right_edge
    first, last = max(begin, 0), min(begin + kernel, size)
    return first, last, (min(begin + kernel, edge) - begin if a.counts_padding else last - first)


@kernel_jit
def _quantised(a: Any, total: int, cells: int, count: int) -> int:
    """Return the byte of an average of `count`, of which `cells` were added up and the others are zero."""
    value = np.float32(total - cells * a.x_zero_point) * a.x_scale / np.float32(count) / a.scale
    # Far beyond any byte, but within what an integer holds.
    value = min(max(value, np.float32(-1e6)), np.float32(1e6))
    byte: int = min(max(int(np.rint(value)) + a.zero_point, a.least), a.most)
    return byte


@kernel_jit
def _sum_rows(a: Any, source: int, first: int, last: int, sums: int) -> int:
    """Leave the sums of rows [first, last) at `sums`, as int32."""
    held = carray(as_pointer(sums), (a.width,), np.int32)
    for column in range(a.width):
        held[column] = 0
    for row in range(first, last):
        place = source + row * a.width
        if a.item == UINT8:
            add_row(UINT8, place, sums, a.width)
        else:
            add_row(INT8, place, sums, a.width)
    return 0


@kernel_jit
def _average_of_plane(a: Any, source: int, target: int, sums: int) -> int:
    """Pool one plane."""
    out = carray(as_pointer(target), (a.out_height * a.out_width,), np.uint8)
    if a.is_whole:
        cells = a.height * a.width
        total = total_of_bytes(UINT8, source, cells) if a.item == UINT8 else total_of_bytes(INT8, source, cells)
        out[0] = _quantised(a, total, cells, _extent(a, 0, 0)[2] * _extent(a, 0, 1)[2]) & 255
        return 0
    held = carray(as_pointer(sums), (a.width,), np.int32)
    for p in range(a.out_height):
        top, bottom, rows = _extent(a, p, 0)
        _sum_rows(a, source, top, bottom, sums)
        for q in range(a.out_width):
            left, right, columns = _extent(a, q, 1)
            total = 0
            for column in range(left, right):
                total += held[column]
            byte = _quantised(a, total, (bottom - top) * (right - left), rows * columns)
            out[p * a.out_width + q] = byte & 255
    return 0


def _average_pool_task(task: int, arguments: Any, x: int, other: int, out: int, shared: int, scratch: int) -> int:
    """Pool one task's planes."""
    a = carray(arguments, (1,), _AVERAGE_POOL)[0]
    first, last = plane_range(task, a.tasks, a.planes)
    for plane in range(first, last):
        _average_of_plane(a, x + plane * a.height * a.width, out + plane * a.out_height * a.out_width, scratch)
    return 0


def _nanoseconds(window: Window, is_whole: bool) -> float:
    """Return about how long a plane takes."""
    if is_whole:
        return 10 + window.height * window.width / 32
    return window.out_height * (window.kernel[0] * (2 + window.width / 16) + window.out_width * (3 + window.kernel[1]))


def prepare_quantised_average_pool(
    windows: Window, counts_padding: bool, dtype: np.dtype[Any], x: Quantisation, y: Quantisation, threads: int
) -> Launch:
    """Prepare ``out[b, c, p, q] = mean over (r, s) of x[b, c, p * down - top + r, q * across - left + s]`` of bytes.

    With the exact integer sum over a window: ``round_half_even(float32(sum of x - zero point) * scale of x / count /
    scale of y) + zero point of y``, each step rounded to float32, saturated. DequantizeLinear, AveragePool and
    QuantizeLinear round their sums, too; where a result is close to half a step the two may differ by 1.

    Parameters
    ----------
    windows
        Where they lie. One as large as the plane is fast. A plane has at most 2**24 items.
    counts_padding
        Whether padding counts as zeros, or windows are cut at the plane's edges. What a window covers beyond the
        padding (``ceil_mode``) never counts.
    dtype
        Of x (b, c, h, w) and out (b, c, oh, ow), C-contiguous: uint8 or int8.
    x, y
        How input and output are quantised.
    threads
        Of the pool.

    Returns
    -------
    Launch
        ``run(x, out, pool)``. Its tasks are machine code: they cannot run under ``NUMBA_DISABLE_JIT``.

    Raises
    ------
    TypeError
        The dtype is another one.
    """
    if dtype.char not in _ITEMS:
        raise TypeError(f"average pooling: expected uint8 or int8, got {dtype}.")
    w = windows
    is_whole = (w.out_height, w.out_width) == (1, 1)
    is_whole = is_whole and w.kernel[0] - w.top >= w.height and w.kernel[1] - w.left >= w.width
    tasks = plane_tasks(w.planes, _nanoseconds(w, is_whole), threads)
    info = np.iinfo(dtype)
    record = (
        *(w.planes, tasks, _ITEMS[dtype.char], w.height, w.width, w.out_height, w.out_width, w.top, w.left),
        *(*w.kernel, *w.strides, is_whole, counts_padding, w.height + w.pads[2], w.width + w.pads[3]),
        *(x.zero_point, y.zero_point, int(info.min), int(info.max), x.scale, y.scale),
    )
    phase = Phase(_average_pool_task, np.array([record], _AVERAGE_POOL), tasks)
    return Launch([phase], 0, w.width * 4)
