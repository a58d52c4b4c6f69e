"""Max pooling: the largest of each window's rows first, then of its columns."""

from typing import Any, Final

import numpy as np
from numba import carray

from sparse_rt_kernels.caches import level1_bytes
from sparse_rt_kernels.jit import kernel_jit
from sparse_rt_kernels.launch import Launch, Phase
from sparse_rt_kernels.planes import plane_range, plane_tasks
from sparse_rt_kernels.pooling.maxima import FLOAT32, INT8, UINT8, largest_of_columns, largest_of_rows, repeat_edges
from sparse_rt_kernels.pooling.window import Window

__all__ = ["prepare_max_pool"]

_ITEMS: Final = {"B": UINT8, "b": INT8, "f": FLOAT32}
_FIELDS: Final = (
    *("planes", "tasks", "item", "itemsize", "height", "width", "out_height", "out_width", "top", "left", "right"),
    *("kernel_rows", "kernel_columns", "down", "across", "band", "pitch", "whole_begin", "whole_end"),
)
#: `band` output rows at a time leave rows of maxima in scratch memory, `pitch` bytes apart.
_MAX_POOL: Final = np.dtype([(name, "i8") for name in _FIELDS])


@kernel_jit
def _rows(
    item: int,
    source: int,
    stride: int,
    count: int,
    step: int,
    target: int,
    pitch: int,
    rows: int,
    width: int,
) -> int:
    if item == UINT8:
        return largest_of_rows(UINT8, source, stride, count, step, target, pitch, rows, width)
    if item == INT8:
        return largest_of_rows(INT8, source, stride, count, step, target, pitch, rows, width)
    return largest_of_rows(FLOAT32, source, stride, count, step, target, pitch, rows, width)


@kernel_jit
def _columns(
    item: int, step: int, source: int, pitch: int, count: int, target: int, stride: int, rows: int, width: int
) -> int:
    if item == UINT8:
        if step == 1:
            return largest_of_columns(UINT8, 1, source, pitch, count, target, stride, rows, width)
        return largest_of_columns(UINT8, 2, source, pitch, count, target, stride, rows, width)
    if item == INT8:
        if step == 1:
            return largest_of_columns(INT8, 1, source, pitch, count, target, stride, rows, width)
        return largest_of_columns(INT8, 2, source, pitch, count, target, stride, rows, width)
    if step == 1:
        return largest_of_columns(FLOAT32, 1, source, pitch, count, target, stride, rows, width)
    return largest_of_columns(FLOAT32, 2, source, pitch, count, target, stride, rows, width)


@kernel_jit
def _edges(item: int, inner: int, pitch: int, rows: int, width: int, before: int, after: int) -> int:
    if item == FLOAT32:
        return repeat_edges(FLOAT32, inner, pitch, rows, width, before, after)
    return repeat_edges(UINT8, inner, pitch, rows, width, before, after)


@kernel_jit
def _rows_of_maxima(a: Any, plane: int, first: int, last: int, held: int) -> int:
    """Leave the largest of each window's rows, for output rows [first, last), at `held`.

    Columns beyond the plane repeat its outermost column, which every window that reaches them holds anyway: the same
    as cutting the window, for NaN and for the lowest values, too.
    """
    row_bytes = a.width * a.itemsize
    step = a.down * row_bytes
    inner = held + a.left * a.itemsize
    row = first
    while row < last:
        begin = row * a.down - a.top
        end = min(begin + a.kernel_rows, a.height)
        begin = max(begin, 0)
        # All the rows whose windows are whole go at once.
        rows = min(last, a.whole_end) - row if row >= a.whole_begin and row < a.whole_end else 1
        target = inner + (row - first) * a.pitch
        _rows(a.item, plane + begin * row_bytes, row_bytes, end - begin, step, target, a.pitch, rows, a.width)
        row += rows
    if a.left + a.right > 0:
        _edges(a.item, inner, a.pitch, last - first, a.width, a.left, a.right)
    return 0


@kernel_jit
def _largest_of_plane(a: Any, plane: int, target: int, held: int) -> int:
    """Pool one plane."""
    out_bytes = a.out_width * a.itemsize
    for first in range(0, a.out_height, a.band):
        last = min(first + a.band, a.out_height)
        _rows_of_maxima(a, plane, first, last, held)
        place = target + first * out_bytes
        if a.across <= 2:
            _columns(a.item, a.across, held, a.pitch, a.kernel_columns, place, out_bytes, last - first, a.out_width)
            continue
        for column in range(a.out_width):
            source = held + column * a.across * a.itemsize
            at = place + column * a.itemsize
            _columns(a.item, 1, source, a.pitch, a.kernel_columns, at, out_bytes, last - first, 1)
    return 0


def _max_pool_task(task: int, arguments: Any, x: int, other: int, out: int, shared: int, scratch: int) -> int:
    """Pool one task's planes."""
    a = carray(arguments, (1,), _MAX_POOL)[0]
    first, last = plane_range(task, a.tasks, a.planes)
    for plane in range(first, last):
        source = x + plane * a.height * a.width * a.itemsize
        _largest_of_plane(a, source, out + plane * a.out_height * a.out_width * a.itemsize, scratch)
    return 0


def _nanoseconds(window: Window, itemsize: int) -> float:
    """Return about how long a plane takes: some cycles a vector and a row, at 4 GHz."""
    vectors = -(-window.columns * itemsize // 64)
    return window.out_height * (vectors * (sum(window.kernel) + 2) + 10) / 4


def prepare_max_pool(
    shape: tuple[int, int, int, int],
    dtype: np.dtype[Any],
    kernel: tuple[int, int],
    strides: tuple[int, int],
    pads: tuple[int, int, int, int],
    out_shape: tuple[int, int, int, int],
    threads: int,
) -> Launch:
    """Prepare ``out[b, c, p, q] = max over (r, s) of x[b, c, p * down - top + r, q * across - left + s]``.

    Windows are cut at the plane's edges: padding never wins. Where two numbers are compared, ``a if a > b else b``
    holds, rows from the top, then columns from the left; a NaN that is not the last of its window is thus forgotten
    together with what came before it, as onnxruntime does inside of planes. Dilations are 1.

    Parameters
    ----------
    shape, dtype
        Of x (b, c, h, w), C-contiguous; uint8, int8 or float32. No size is 0.
    kernel, strides
        (rows, columns).
    pads
        (top, left, bottom, right); less than the kernel. Bottom and right only matter through `out_shape`.
    out_shape
        (b, c, oh, ow), whichever way it was rounded (``ceil_mode``), as long as every window meets the plane.
    threads
        Of the pool.

    Returns
    -------
    Launch
        ``run(x, out, pool)``. Its tasks are machine code: they cannot run under ``NUMBA_DISABLE_JIT``.

    Raises
    ------
    ValueError
        A window would lie in the padding alone, or a pad is negative.
    TypeError
        The dtype is another one.
    """
    if dtype.char not in _ITEMS:
        raise TypeError(f"max pooling: expected uint8, int8 or float32, got {dtype}.")
    window = Window.of(shape, kernel, strides, pads, out_shape)
    tasks = plane_tasks(window.planes, _nanoseconds(window, dtype.itemsize), threads)
    # Vectors of every second column read one column more.
    columns = max(window.columns, window.left + window.width) + 1
    pitch = -(-columns * dtype.itemsize // 64) * 64
    band = max(1, min(window.out_height, level1_bytes() // 2 // pitch))
    record = (
        *(window.planes, tasks, _ITEMS[dtype.char], dtype.itemsize),
        *(window.height, window.width, window.out_height, window.out_width, window.top, window.left, window.right),
        *(*kernel, *strides, band, pitch, *window.whole_rows),
    )
    return Launch([Phase(_max_pool_task, np.array([record], _MAX_POOL), tasks)], 0, band * pitch)
