"""Addresses, and scratch memory for packing: one growing, cache-line-aligned buffer a purpose and a thread."""

import ctypes
import functools
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_rt_kernels.jit.compilation import kernel_jit
from sparse_rt_kernels.jit.compiler import carray, emitter, types
from sparse_rt_kernels.jit.entry import as_int, builtin, is_available
from sparse_rt_kernels.jit.llvm import I8
from sparse_rt_kernels.threads import atomics

__all__ = [
    "ALIGNMENT",
    "address_of",
    "aligned_empty",
    "array_at",
    "as_matrix",
    "as_pointer",
    "scratch_address",
]

#: Bytes of one cache line, and of one AVX-512 register.
ALIGNMENT = 64

_OBJECT_BYTES = object.__basicsize__

_local = threading.local()


def _address_entry(own: int, given: int, number: int) -> int:
    """Be :func:`address_of` in C: an array's object begins, after what all objects have, with the address."""
    reference: int = as_int(atomics.load(atomics.load(given) + _OBJECT_BYTES))
    return reference


def _address_of(array: NDArray[Any]) -> int:
    return int(array.ctypes.data)


@functools.cache
def _quickest() -> Callable[[NDArray[Any]], int]:
    """Return what tells an address here: NumPy's own ways take 1 us, compiled code 0.1."""
    return builtin(_address_entry) if is_available() else _address_of


def address_of(array: NDArray[Any]) -> int:
    """Return the address of an array's first element; runs ask for that of everything that they read and write."""
    return _quickest()(array)


@emitter
def as_pointer(context: Any, address: Any) -> Any:
    """Return the pointer to `address`, as :func:`numba.carray` takes it."""

    def generate(target: Any, builder: Any, signature: Any, given: Any) -> Any:
        return builder.inttoptr(given[0], I8.as_pointer())

    return types.voidptr(types.intp), generate


@as_pointer.in_python
def _as_c_pointer(address: int) -> ctypes.c_void_p:
    return ctypes.c_void_p(int(address))


@kernel_jit
def array_at(address: int, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """Return the contiguous array at an address."""
    array: NDArray[Any] = carray(as_pointer(address), shape, dtype)
    return array


@kernel_jit
def as_matrix(array: NDArray[Any], rows: int, columns: int) -> NDArray[Any]:
    """Return the first items of a contiguous array as a matrix. Of compiled code: reshape calls Numba's library."""
    matrix: NDArray[Any] = array_at(int(np.intp(array.ctypes.data)), (rows, columns), array.dtype)
    return matrix


def aligned_empty(nbytes: int) -> NDArray[np.uint8]:
    """Return `nbytes` uninitialised bytes that begin at a multiple of 64."""
    raw = np.empty(nbytes + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + nbytes]


def scratch_address(purpose: str, nbytes: int) -> int:
    """Return the address of `nbytes` aligned bytes of this thread's buffer for `purpose`; they hold anything.

    The buffer is valid until the same thread asks for the same purpose again. It is kept between calls because fresh
    pages from the system cost more than packing into them.
    """
    buffers: dict[str, tuple[NDArray[np.uint8], int]] = _local.__dict__
    held = buffers.get(purpose)
    if held is None or held[0].size < nbytes:
        buffer = aligned_empty(nbytes)
        held = buffers[purpose] = (buffer, buffer.ctypes.data)
    return held[1]
