"""Max pooling: the largest of each window's rows first, then of its columns."""

import functools
from dataclasses import replace
from typing import Any, Final

import numpy as np

from sparse_rt_kernels.between.pooling.maxima import (
    ITEMS,
    Results,
    Rows,
    largest_of_columns,
    largest_of_rows,
    repeat_edges,
)
from sparse_rt_kernels.between.pooling.window import Window
from sparse_rt_kernels.cpu.caches import level1_bytes
from sparse_rt_kernels.jit.compilation import TaskFunction, kernel_jit
from sparse_rt_kernels.jit.compiler import carray
from sparse_rt_kernels.threads.launch import Launch, Phase
from sparse_rt_kernels.threads.planes import plane_range, plane_tasks

__all__ = ["prepare_max_pool"]

#: Rows up to which planes are stacked.
_MOST_ROWS: Final = 1024
_FIELDS: Final = (
    *("planes", "tasks", "itemsize", "height", "width", "out_height", "out_width", "top", "left", "right"),
    *("kernel_rows", "kernel_columns", "down", "across", "band", "pitch", "whole_begin", "whole_end"),
)
#: `band` output rows at a time leave rows of maxima in scratch memory, `pitch` bytes apart.
_MAX_POOL: Final = np.dtype([(name, "i8") for name in _FIELDS])


@kernel_jit
def _rows_of_maxima(item: int, a: Any, plane: int, first: int, last: int, held: int) -> int:
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
        source = plane + begin * row_bytes
        largest_of_rows(item, Rows(source, row_bytes), end - begin, step, Results(target, a.pitch, rows, a.width))
        row += rows
    if a.left + a.right > 0:
        repeat_edges(item, Results(inner, a.pitch, last - first, a.width), a.left, a.right)
    return 0


@kernel_jit
def _largest_of_plane(item: int, a: Any, plane: int, target: int, held: int) -> int:
    """Pool one plane. `item` is a literal, so that each item's code is compiled where it is needed alone."""
    out_bytes = a.out_width * a.itemsize
    # Vectors take every column or every second one; columns further apart go one by one.
    pieces, width = (1, a.out_width) if a.across <= 2 else (a.out_width, 1)
    for first in range(0, a.out_height, a.band):
        last = min(first + a.band, a.out_height)
        _rows_of_maxima(item, a, plane, first, last, held)
        for piece in range(pieces):
            source = Rows(held + piece * a.across * a.itemsize, a.pitch)
            place = target + first * out_bytes + piece * a.itemsize
            results = Results(place, out_bytes, last - first, width)
            if a.across == 2:
                largest_of_columns(item, 2, source, a.kernel_columns, results)
            else:
                largest_of_columns(item, 1, source, a.kernel_columns, results)
    return 0


@functools.cache
def _task(item: int) -> TaskFunction:
    """Return the task for UINT8, INT8 or FLOAT32."""

    def pool_task(task: int, arguments: Any, x: int, other: int, out: int, shared: int, scratch: int) -> int:
        """Pool one task's planes."""
        a = carray(arguments, (1,), _MAX_POOL)[0]
        first, last = plane_range(task, a.tasks, a.planes)
        for plane in range(first, last):
            source = x + plane * a.height * a.width * a.itemsize
            _largest_of_plane(item, a, source, out + plane * a.out_height * a.out_width * a.itemsize, scratch)
        return 0

    return pool_task


def _stacked(window: Window, threads: int) -> Window:
    """Return the same windows over fewer, taller planes where none crosses from a plane into the next.

    Planes lie one after the other in memory; a plane costs about 40 ns of its own, and rows of 8 bytes far less.
    """
    if window.top or window.kernel[0] > window.strides[0] or window.height != window.out_height * window.strides[0]:
        return window
    most = min(window.planes // (4 * threads), _MOST_ROWS // window.height)
    together = next((count for count in range(most, 1, -1) if window.planes % count == 0), 1)
    return replace(
        window,
        planes=window.planes // together,
        height=window.height * together,
        out_height=window.out_height * together,
    )


def _nanoseconds(window: Window, itemsize: int) -> float:
    """Return about how long a plane takes: some cycles a vector and a row, at 4 GHz."""
    vectors = -(-window.columns * itemsize // 64)
    return window.out_height * (vectors * (sum(window.kernel) + 2) + 10) / 4


def prepare_max_pool(windows: Window, dtype: np.dtype[Any], threads: int) -> Launch:
    """Prepare ``out[b, c, p, q] = max over (r, s) of x[b, c, p * down - top + r, q * across - left + s]``.

    Windows are cut at the plane's edges: padding never wins. Where two numbers are compared, ``a if a > b else b``
    holds, rows from the top, then columns from the left; a NaN that is not the last of its window is thus forgotten
    together with what came before it. onnxruntime does so in some places of an image, and not in others.
    Dilations are 1.

    Parameters
    ----------
    windows
        Where they lie.
    dtype
        Of x (b, c, h, w) and out (b, c, oh, ow), C-contiguous; uint8, int8 or float32.
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
    if dtype.char not in ITEMS:
        raise TypeError(f"max pooling: expected uint8, int8 or float32, got {dtype}.")
    window = _stacked(windows, threads)
    tasks = plane_tasks(window.planes, _nanoseconds(window, dtype.itemsize), threads)
    # Vectors of every second column read one column more.
    columns = max(window.columns, window.left + window.width) + 1
    pitch = -(-columns * dtype.itemsize // 64) * 64
    band = max(1, min(window.out_height, level1_bytes() // 2 // pitch))
    record = (
        *(window.planes, tasks, dtype.itemsize),
        *(window.height, window.width, window.out_height, window.out_width, window.top, window.left, window.right),
        *(*window.kernel, *window.strides, band, pitch, *window.whole_rows),
    )
    return Launch([Phase(_task(ITEMS[dtype.char]), np.array([record], _MAX_POOL), tasks)], 0, band * pitch)
