"""What a library calls in a process with Python: kernels are made, calls prepared, and both let go, by Python.

A run whose shapes have come before calls nothing of this.
"""

import atexit
import ctypes
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from sparse_rt_kernels.custom_op.words import library

from sparse_rt.errors import SparseRTError
from sparse_rt.library.call_block import CallBlock
from sparse_rt.library.kernel_block import KernelBlock
from sparse_rt.library.onnxruntime_api import Api, ApiError

__all__ = ["Maker", "connect", "error_of"]

_WORD = 8
#: Makes the kernel of a node: (number of the operator, address of the library's block, onnxruntime, its OrtKernelInfo).
Maker = Callable[[int, int, Api, int], KernelBlock]

_CREATE: Final = ctypes.CFUNCTYPE(*[ctypes.c_int64] * 5)
_PREPARE: Final = ctypes.CFUNCTYPE(*[ctypes.c_int64] * 6)
_RUN: Final = ctypes.CFUNCTYPE(*[ctypes.c_int64] * 4)
_DONE: Final = ctypes.CFUNCTYPE(*[ctypes.c_int64] * 2)

#: What Python keeps alive for libraries: kernels, calls that are under way, by address.
_kernels: dict[int, KernelBlock] = {}
_calls: dict[int, CallBlock] = {}
# Python takes modules apart before it ends, and sessions that are left then still read their kernels' words.
ctypes.pythonapi.Py_IncRef(ctypes.py_object(_kernels))
_texts = threading.local()
#: The last errors that onnxruntime was told of.
_errors: deque[BaseException] = deque(maxlen=64)


def _tell(error: BaseException, place: int) -> int:
    """Put the address of an error's text at `place`; return 0. onnxruntime copies it before this thread fails again."""
    text = _text(error)
    _errors.append(error.with_traceback(None))
    _texts.last = ctypes.create_string_buffer(f"sparse_rt: {text}".encode())
    ctypes.c_int64.from_address(place).value = ctypes.addressof(_texts.last)
    return 0


def _text(error: BaseException) -> str:
    return str(error) if isinstance(error, SparseRTError | ApiError) else f"{type(error).__name__}: {error}"


def error_of(text: str) -> BaseException | None:
    """Return the error of ours that an error of onnxruntime's of that text speaks of; None if it is another's."""
    return next((error for error in reversed(tuple(_errors)) if _text(error) in text), None)


def _shapes(key: int, count: int) -> list[tuple[int, ...]]:
    """Return the shapes that a key holds; see :mod:`sparse_rt_kernels.custom_op.words.call`."""
    words: list[int] = list((ctypes.c_int64 * count).from_address(key)) if count else []
    shapes, at = [], 0
    while at < count:
        end = at + 1 + words[at]
        shapes.append(tuple(words[at + 1 : end]))
        at = end
    return shapes


def _prepare(own: int, threads: int, key: int, count: int, error: int) -> int:
    try:
        call = _kernels[own].prepare(_shapes(key, count), threads)
    except Exception as failure:
        return _tell(failure, error)
    if call is None:
        return 0
    if not call.is_kept:
        _calls[call.address] = call
    return call.address


def _run(own: int, context: int, error: int) -> int:
    try:
        kernel = _kernels[own]
        kernel.run(Api(kernel.api), context)
    except Exception as failure:
        return _tell(failure, error)
    return 1


def _done(call: int) -> int:
    _calls.pop(call, None)
    return 0


def _release(own: int) -> int:
    _kernels.pop(own, None)
    return 0


class _Connection:
    """A library that calls Python."""

    def __init__(self, block: int, make: Maker) -> None:
        def create(number: int, api: int, info: int, error: int) -> int:
            try:
                kernel = make(number, block, Api(api), info)
            except Exception as failure:
                return _tell(failure, error)
            kernel.api = api
            _kernels[kernel.address] = kernel
            return kernel.address

        self._words = (ctypes.c_int64 * library.COUNT).from_address(block)
        self._functions: dict[int, Any] = {
            library.CREATE: _CREATE(create),
            library.PREPARE: _PREPARE(_prepare),
            library.RUN: _RUN(_run),
            library.DONE: _DONE(_done),
            library.RELEASE: _DONE(_release),
        }
        for place, function in self._functions.items():
            self._words[place // _WORD] = ctypes.cast(function, ctypes.c_void_p).value or 0
        atexit.register(self.cut)

    def cut(self) -> None:
        """Call Python no more: it ends, and sessions may outlive it."""
        for place in self._functions:
            self._words[place // _WORD] = 0


_connections: dict[int, _Connection] = {}


def connect(block: int, make: Maker) -> None:
    """Let the library whose block of words is at an address call Python, once."""
    if block not in _connections:
        _connections[block] = _Connection(block, make)
