"""Scratch memory for packing: one growing, cache-line-aligned buffer a purpose and a thread."""

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["ALIGNMENT", "address_of", "aligned_empty", "scratch", "scratch_address"]

#: Bytes of one cache line, and of one AVX-512 register.
ALIGNMENT = 64

_local = threading.local()


def address_of(array: Any) -> int:
    """Return the address of an array's first element, faster than its ``ctypes`` attribute does."""
    address: int = array.__array_interface__["data"][0]
    return address


def aligned_empty(nbytes: int) -> NDArray[np.uint8]:
    """Return `nbytes` uninitialised bytes that begin at a multiple of 64."""
    raw = np.empty(nbytes + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + nbytes]


def scratch(purpose: str, nbytes: int) -> NDArray[np.uint8]:
    """Return at least `nbytes` aligned bytes of this thread's buffer for `purpose`; contents are undefined.

    The buffer is valid until the same thread asks for the same purpose again. It is kept between calls because fresh
    pages from the system cost more than packing into them.
    """
    buffers: dict[str, NDArray[np.uint8]] = _local.__dict__
    held = buffers.get(purpose)
    if held is None or held.size < nbytes:
        held = buffers[purpose] = aligned_empty(nbytes)
    return held


def scratch_address(purpose: str, nbytes: int) -> int:
    """Return the address of :func:`scratch`."""
    return address_of(scratch(purpose, nbytes))
