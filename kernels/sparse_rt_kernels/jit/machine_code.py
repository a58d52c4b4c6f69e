"""Images of machine code: kept in files, found again, and put into memory, without LLVM.

A file is the length of a header, the header, then the image. :mod:`sparse_rt_kernels.disk.cache_folder` tells damage.
"""

import ctypes
import functools
import json
import mmap
import platform
import sys
from typing import Any, Final

import numpy as np

from sparse_rt_kernels.jit.object_file import Image

__all__ = ["can_load", "is_available", "load", "pack", "unpack"]

_LENGTH: Final = 8
_WORD: Final = 8
#: Numba's own functions that only raise, or free what nobody has allocated; no task does, so they are never called.
_UNREACHABLE: Final = frozenset(
    {
        *("numba_unpickle", "numba_do_raise", "numba_runtime_build_excinfo_struct", "numba_gil_ensure"),
        *("numba_gil_release", "NRT_Free", "NRT_MemInfo_call_dtor"),
    }
)
#: Whatever is loaded stays: nobody knows who still has its address.
_loaded: list[mmap.mmap] = []


def is_available() -> bool:
    """Return whether images can be made and run here."""
    return sys.platform.startswith("linux") and platform.machine() == "x86_64"


def pack(image: Image) -> bytes:
    """Return the content of a file that holds `image`."""
    header = json.dumps(image[1:]).encode()
    return len(header).to_bytes(_LENGTH, "little") + header + image.content


def unpack(content: bytes) -> Image | None:
    """Return what :func:`pack` was given, or None if the file holds anything else."""
    end = _LENGTH + int.from_bytes(content[:_LENGTH], "little")
    try:
        entry, inner, outer, code_size, to_constants = json.loads(content[_LENGTH:end])
        outside = tuple((at, name) for at, name in outer)
        image = Image(content[end:], entry, tuple(inner), outside, code_size, tuple(to_constants))
    except (ValueError, TypeError, RecursionError):
        return None
    return image if _is_sound(image) else None


def _is_sound(image: Image) -> bool:
    """Return whether what an image says of itself lies within it: words outside it would be written to."""
    words = (*image.inner, *(at for at, _ in image.outer))
    return (
        _is_place(image.entry, len(image.content))
        and all(_is_place(at, len(image.content) - _WORD + 1) for at in words)
        and all(isinstance(name, str) for _, name in image.outer)
        and _is_place(image.code_size, len(image.content) + 1)
        and set(image.to_constants) <= set(image.inner)
    )


def _is_place(at: object, end: int) -> bool:
    return type(at) is int and 0 <= at < end


def can_load(image: Image) -> bool:
    """Return whether this process has all functions that the code calls, Numba's apart: they may be absent."""
    try:
        return all(_address_of(symbol) for _, symbol in image.outer)
    except OSError:
        return False


def load(image: Image) -> int:
    """Put an image into memory, for good, and return the address of its function.

    Raises
    ------
    OSError
        The system does not give memory that can be run; or lacks a function that the code calls.
    """
    memory = mmap.mmap(-1, len(image.content), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.write(image.content)
    held = (ctypes.c_char * len(memory)).from_buffer(memory)
    address = ctypes.addressof(held)
    words = np.frombuffer(memory, np.uint8)
    _increase(words, image.inner, address)
    for at, symbol in image.outer:
        _increase(words, (at,), _address_of(symbol))
    _allow_to_run(address, len(image.content))
    _loaded.append(memory)
    return address + image.entry


def _increase(content: Any, places: tuple[int, ...], amount: int) -> None:
    """Increase the words at `places`, which are not aligned."""
    if places:
        at = np.array(places)[:, None] + np.arange(_WORD)
        content[at] = (content[at].view(np.int64) + amount).view(np.uint8)


def _allow_to_run(address: int, size: int) -> None:
    protect = _libraries()[0].mprotect
    protect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    if protect(address, size, mmap.PROT_READ | mmap.PROT_EXEC):
        raise OSError("memory cannot be made executable")


@functools.cache
def _libraries() -> tuple[ctypes.CDLL, ...]:
    """Return what the process has loaded, and the mathematics of C, which it may not have."""
    return ctypes.CDLL(None), ctypes.CDLL("libm.so.6")


@functools.cache
def _address_of(symbol: str) -> int:
    name = "abort" if symbol in _UNREACHABLE else symbol
    for library in _libraries():
        try:
            found = getattr(library, name)
        except AttributeError:
            continue
        return int(ctypes.cast(found, ctypes.c_void_p).value or 0)
    raise OSError(f"no function '{symbol}' in this process")
