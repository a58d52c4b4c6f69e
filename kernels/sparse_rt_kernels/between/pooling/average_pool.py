"""Average pooling: columns of each window's rows are added up first, then the window's columns."""

from typing import Any, Final

import numpy as np

from sparse_rt_kernels.between.pooling.maxima import FLOAT32, INT8, UINT8
from sparse_rt_kernels.between.pooling.totals import add_row, total_of_bytes, total_of_floats
from sparse_rt_kernels.between.pooling.window import Window
from sparse_rt_kernels.jit.compilation import kernel_jit
from sparse_rt_kernels.jit.compiler import carray
from sparse_rt_kernels.threads.launch import Launch, Phase
from sparse_rt_kernels.threads.planes import plane_range, plane_tasks
from sparse_rt_kernels.threads.workspace import as_pointer
from sparse_rt_kernels.vectors.quantisation import Quantisation

__all__ = ["prepare_average_pool", "prepare_quantised_average_pool"]

_ITEMS: Final = {"B": UINT8, "b": INT8, "f": FLOAT32}
_FIELDS: Final = (
    *("planes", "tasks", "item", "itemsize", "height", "width", "out_height", "out_width", "top", "left"),
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
    """Leave the sums of rows [first, last) at `sums`, as int32 or float32."""
    held = carray(as_pointer(sums), (a.width,), np.int32)
    # The same bits are 0.0.
    for column in range(a.width):
        held[column] = 0
    for row in range(first, last):
        place = source + row * a.width * a.itemsize
        if a.item == UINT8:
            add_row(UINT8, place, sums, a.width)
        elif a.item == INT8:
            add_row(INT8, place, sums, a.width)
        else:
            add_row(FLOAT32, place, sums, a.width)
    return 0


@kernel_jit
def _bytes_of_plane(a: Any, source: int, target: int, sums: int) -> int:
    """Pool one plane of bytes."""
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


@kernel_jit
def _floats_of_plane(a: Any, source: int, target: int, sums: int) -> int:
    """Pool one plane of floats."""
    out = carray(as_pointer(target), (a.out_height * a.out_width,), np.float32)
    if a.is_whole:
        count = _extent(a, 0, 0)[2] * _extent(a, 0, 1)[2]
        out[0] = total_of_floats(source, a.height * a.width) / np.float32(count)
        return 0
    held = carray(as_pointer(sums), (a.width,), np.float32)
    for p in range(a.out_height):
        top, bottom, rows = _extent(a, p, 0)
        _sum_rows(a, source, top, bottom, sums)
        for q in range(a.out_width):
            left, right, columns = _extent(a, q, 1)
            total = np.float32(0)
            for column in range(left, right):
                total += held[column]
            out[p * a.out_width + q] = total / np.float32(rows * columns)
    return 0


def _average_pool_task(task: int, arguments: Any, x: int, other: int, out: int, shared: int, scratch: int) -> int:
    """Pool one task's planes."""
    a = carray(arguments, (1,), _AVERAGE_POOL)[0]
    first, last = plane_range(task, a.tasks, a.planes)
    for plane in range(first, last):
        source = x + plane * a.height * a.width * a.itemsize
        target = out + plane * a.out_height * a.out_width * a.itemsize
        if a.item == FLOAT32:
            _floats_of_plane(a, source, target, scratch)
        else:
            _bytes_of_plane(a, source, target, scratch)
    return 0


def _nanoseconds(window: Window, is_whole: bool) -> float:
    """Return about how long a plane takes."""
    if is_whole:
        return 10 + window.height * window.width / 32
    return window.out_height * (window.kernel[0] * (2 + window.width / 16) + window.out_width * (3 + window.kernel[1]))


def _prepare(
    shape: tuple[int, int, int, int],
    dtype: np.dtype[Any],
    kernel: tuple[int, int],
    strides: tuple[int, int],
    pads: tuple[int, int, int, int],
    out_shape: tuple[int, int, int, int],
    count_include_pad: bool,
    threads: int,
    quantisation: tuple[float, ...],
) -> Launch:
    window = Window.of(shape, kernel, strides, pads, out_shape)
    whole = (window.out_height, window.out_width) == (1, 1)
    whole = whole and all(kernel[axis] - pads[axis] >= shape[2 + axis] for axis in (0, 1))
    tasks = plane_tasks(window.planes, _nanoseconds(window, whole), threads)
    record = (
        *(window.planes, tasks, _ITEMS[dtype.char], dtype.itemsize, window.height, window.width),
        *(window.out_height, window.out_width, window.top, window.left, *kernel, *strides),
        *(whole, count_include_pad, window.height + pads[2], window.width + pads[3]),
        *quantisation,
    )
    phase = Phase(_average_pool_task, np.array([record], _AVERAGE_POOL), tasks)
    return Launch([phase], 0, window.width * 4)


def prepare_average_pool(
    shape: tuple[int, int, int, int],
    kernel: tuple[int, int],
    strides: tuple[int, int],
    pads: tuple[int, int, int, int],
    out_shape: tuple[int, int, int, int],
    count_include_pad: bool,
    threads: int,
) -> Launch:
    """Prepare ``out[b, c, p, q] = mean over (r, s) of x[b, c, p * down - top + r, q * across - left + s]``, float32.

    Sums are float32, in no particular order. A kernel as large as the plane (GlobalAveragePool) is fast.

    Parameters
    ----------
    count_include_pad
        Whether padding counts as zeros, or windows are cut at the plane's edges. What a window covers beyond the
        padding (``ceil_mode``) never counts.
    shape, kernel, strides, pads, out_shape, threads
        See :func:`sparse_rt_kernels.between.pooling.prepare_max_pool`, and for what is returned and raised.
    """
    dtype = np.dtype(np.float32)
    return _prepare(shape, dtype, kernel, strides, pads, out_shape, count_include_pad, threads, (0, 0, 0, 0, 1.0, 1.0))


def prepare_quantised_average_pool(
    shape: tuple[int, int, int, int],
    dtype: np.dtype[Any],
    x: Quantisation,
    y: Quantisation,
    kernel: tuple[int, int],
    strides: tuple[int, int],
    pads: tuple[int, int, int, int],
    out_shape: tuple[int, int, int, int],
    count_include_pad: bool,
    threads: int,
) -> Launch:
    """Prepare DequantizeLinear, :func:`prepare_average_pool`, QuantizeLinear of uint8 or int8 arrays of one dtype.

    With the exact integer sum over a window: ``round_half_even(float32(sum of x - zero point) * scale of x / count /
    scale of y) + zero point of y``, each step rounded to float32, saturated. Separate operators round their sums,
    too; where a result is close to half a step the two may differ by 1.

    Parameters
    ----------
    dtype
        Of x and out: uint8 or int8.
    x, y
        How input and output are quantised.
    shape, kernel, strides, pads, out_shape, count_include_pad, threads
        See :func:`prepare_average_pool`. A plane has at most 2**24 items.

    Raises
    ------
    TypeError
        The dtype is another one.
    """
    if dtype.char not in "bB":
        raise TypeError(f"average pooling: expected uint8 or int8, got {dtype}.")
    least, most = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    fields = (x.zero_point, y.zero_point, least, most, x.scale, y.scale)
    return _prepare(shape, dtype, kernel, strides, pads, out_shape, count_include_pad, threads, fields)
