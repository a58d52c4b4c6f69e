"""Where the library of this process lies: written at first use, for this CPU, and connected to Python."""

import ctypes
import hashlib
import os
import threading
from typing import Final

from sparse_rt_kernels.custom_op.contents import LIBRARY, Domain, library_of
from sparse_rt_kernels.disk.library_file import path_of
from sparse_rt_kernels.jit.compilation import cache_key

from sparse_rt.boundary import public
from sparse_rt.errors import ConfigError, message
from sparse_rt.library import kernels, operators
from sparse_rt.library.callbacks import Maker, connect

__all__ = ["get_library_path", "get_segment_library_path", "open_library", "written"]

_lock = threading.Lock()
#: Libraries that this process has opened, by what tells a file from another one of the same name.
_opened: dict[tuple[int, int], ctypes.CDLL] = {}
_WHERE: Final = "get_library_path"


@public
def get_library_path() -> str:
    """Return the path of a library of custom operators: sparse kernels for stock onnxruntime, in this process.

    >>> options = onnxruntime.SessionOptions()
    >>> options.register_custom_ops_library(sparse_rt.get_library_path())
    >>> session = onnxruntime.InferenceSession("compressed.onnx", options)

    onnxruntime then runs the layers that `compress` has rewritten on our kernels, on its own threads and in its own
    memory, instead of the function bodies that the file holds for them. The library is written when it is first asked
    for, and kept in the cache folder; it serves this process. For processes without Python see ``sparse-rt library``.

    Returns
    -------
    str
        Path of the shared object.

    Raises
    ------
    ConfigError
        There is no such library on this system, or nowhere to put it.
    """
    return _library(operators.domains(), kernels.make_layer)


def get_segment_library_path() -> str:
    """Return the path of the library whose operators are segments of this process; see :mod:`.segments`.

    It is apart because each operator of a library costs every session that it is registered in time and memory.
    Raises what :func:`get_library_path` does.
    """
    return _library(operators.segment_domains(), kernels.make_segment)


def _library(domains: tuple[Domain, ...], make: Maker) -> str:
    with _lock:
        try:
            path = written(domains, "libsparse_rt")
        except (LookupError, OSError) as error:
            expected = "x86-64 Linux, kernels that are compiled, and a folder or memory for a library"
            remedy = "Leave the library out: compressed files run without it."
            raise ConfigError(message(_WHERE, expected, str(error), remedy)) from error
        open_library(path, make)
    return path


def written(domains: tuple[Domain, ...], name: str) -> str:
    """Return the path of the library with these operators, whose file is called `name` and what tells it from others.

    Raises
    ------
    LookupError, OSError
        This system has no machine code that can be kept; there is nowhere to put it.
    """
    digest = hashlib.sha256(repr(domains).encode()).hexdigest()[:20]
    soname = f"{name}-{digest}.so"
    return str(path_of(cache_key(), soname, lambda: library_of(domains, soname)))


def open_library(path: str, make: Maker) -> None:
    """Have the system load a library, as onnxruntime will, and let it call Python, which makes kernels by `make`."""
    found = os.stat(path)
    mark = (found.st_dev, found.st_ino)
    if mark not in _opened:
        # onnxruntime gets the same object: the system loads a file once.
        library = ctypes.CDLL(path)
        connect(ctypes.addressof(ctypes.c_int64.in_dll(library, LIBRARY)), make)
        _opened[mark] = library
