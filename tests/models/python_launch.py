"""Launches of Python functions, so that kernels can be written in NumPy."""

import ctypes

import numpy as np
from numba import carray
from numpy.lib.stride_tricks import as_strided
from sparse_rt_kernels.threads import atomics
from sparse_rt_kernels.threads.launch import Launch, Phase

_RECORD = np.dtype([("function", "i8")])
_Task = ctypes.CFUNCTYPE(ctypes.c_ssize_t, *[ctypes.c_ssize_t] * 7)


def _call(task, arguments, x, other, out, shared, scratch):
    """Call a Python function as a C function; whoever runs tasks has no GIL."""
    function = carray(arguments, (1,), _RECORD)[0].function
    return atomics.call_task(function, task, 0, x, other, out, shared, scratch)


class _Raised:
    """The other way of a launch that has failed: its error is the caller's."""

    def __init__(self):
        self.error = None

    def run_at(self, x, other, out, pool):
        raise self.error


def _array_at(address, shape, dtype, row_stride=None):
    """The array at an address, contiguous but for the bytes from row to row."""
    item = np.ndarray((1,), dtype, (ctypes.c_char * np.dtype(dtype).itemsize).from_address(address))
    strides = list(np.ndarray(shape, dtype).strides)
    if row_stride is not None:
        strides[0] = row_stride
    return as_strided(item, shape, strides)


def _launch(function):
    """A launch of one task that calls ``function(address of x, address of out)``."""
    raised = _Raised()

    def task(task, arguments, x, other, out, shared, scratch):
        try:
            function(x, out)
        except BaseException as error:  # for the thread that runs the launch
            raised.error = error
            return 1
        return 0

    c_function = _Task(task)
    record = np.array([(ctypes.cast(c_function, ctypes.c_void_p).value,)], _RECORD)
    return Launch([Phase(_call, record, 1)], keep=(c_function,), otherwise=raised)


def prepared_matmul(matmul):
    """The `prepare_matmul` of a kernel whose calls are ``matmul(x, packed, epilogue, out)``."""

    def prepare(shape, packed, epilogue, threads):
        def run(x, out):
            given = _array_at(x, (shape.m, shape.columns), shape.x_dtype, shape.x_stride)
            matmul(given, packed, epilogue, _array_at(out, (shape.m, packed.n), shape.out_dtype, shape.out_stride))

        return _launch(run)

    return prepare


def prepared_conv(conv):
    """The `prepare_conv` of a kernel whose calls are ``conv(x, geometry, packed, epilogue, out)``."""

    def prepare(geometry, x_dtype, out_dtype, packed, epilogue, threads):
        g = geometry

        def run(x, out):
            given = _array_at(x, (g.batch, g.channels, g.height, g.width), x_dtype)
            conv(given, g, packed, epilogue, _array_at(out, (g.batch, packed.n, g.out_height, g.out_width), out_dtype))

        return _launch(run)

    return prepare
