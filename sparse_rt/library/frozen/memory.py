"""Memory that prepared calls lie in and point to, as blocks of a library.

A call is words in arrays; whatever of them is the address of memory that a given object owns becomes a pointer to a
block with that memory's content. No size, stride or count is as large as an address (see
:mod:`sparse_rt_kernels.threads.launch_family`), which is checked: addresses must lie high.
"""

import bisect
import ctypes
import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sparse_rt_kernels.jit.shared_object import Block, Pointer

from sparse_rt.errors import ConfigError, message

__all__ = ["UnknownAddressError", "Memory"]

_WORD: Final = 8
#: Addresses of programs that are mapped high; anything less may be a size.
_LOWEST: Final = 1 << 40
#: Where Linux maps memory for programs and libraries.
_MAPPED: Final = range(0x5500_0000_0000, 0x8000_0000_0000)
_PACKAGES: Final = ("sparse_rt.", "sparse_rt_kernels.")


class UnknownAddressError(ValueError):
    """A word looks like an address, but nothing that is known lies there."""


class _Span(NamedTuple):
    """Memory of an array."""

    start: int
    end: int
    array: NDArray[Any]


class Memory:
    """Turns memory into blocks, which are named after their contents: what is equal is stored once.

    Parameters
    ----------
    functions
        Names of the pieces of code by their addresses.
    """

    def __init__(self, functions: Mapping[int, str]) -> None:
        self._functions = functions
        self._starts: list[int] = []
        self._spans: list[_Span] = []
        #: What was looked at, by its id, which stays its own as long as it is here.
        self._known: dict[int, object] = {}
        self._names: dict[int, str] = {}
        #: By name.
        self.blocks: dict[str, Block] = {}

    def hold(self, owners: Iterable[object]) -> None:
        """Let the arrays that objects of these packages own, and theirs, be known from now on."""
        found = [_span(array) for array in _arrays(owners, self._known)]
        for span in found:
            if span.start < _LOWEST:
                got = f"an array at {span.start:#x}"
                remedy = "Use a Python that is a position-independent executable."
                raise ConfigError(message("library", "arrays at high addresses", got, remedy))
        self._spans = _outermost([*self._spans, *found])
        self._starts = [span.start for span in self._spans]

    def add(self, content: bytes, pointers: Iterable[Pointer] = ()) -> str:
        """Return the name of a block with this content."""
        pointers = tuple(sorted(pointers))
        digest = hashlib.sha256(repr(pointers).encode())
        digest.update(content)
        name = digest.hexdigest()
        self.blocks.setdefault(name, Block(name, content, False, pointers))
        return name

    def pointers_in(self, array: NDArray[Any]) -> list[Pointer]:
        """Return the words of an array that are addresses of what is known."""
        found = []
        for at, value in _words(array):
            target = self._target(value)
            if target is not None:
                found.append(target._replace(at=at))
            elif value in _MAPPED:
                raise UnknownAddressError(f"nothing is known at {value:#x}")
        return found

    def _target(self, address: int) -> Pointer | None:
        """Return a pointer to what lies at an address."""
        if address in self._functions:
            return Pointer(0, self._functions[address])
        number = bisect.bisect_right(self._starts, address) - 1
        if number < 0 or address >= self._spans[number].end:
            return None
        span = self._spans[number]
        return Pointer(0, self._block(span), address - span.start)

    def _block(self, span: _Span) -> str:
        if span.start not in self._names:
            content = bytearray(ctypes.string_at(span.start, span.end - span.start))
            pointers = self.pointers_in(span.array)
            for pointer in pointers:
                content[pointer.at : pointer.at + _WORD] = bytes(_WORD)
            self._names[span.start] = self.add(bytes(content), pointers)
        return self._names[span.start]


def _words(array: NDArray[Any]) -> Iterable[tuple[int, int]]:
    """Return (place in bytes, value) of the int64 words of an array that may be addresses."""
    if not array.size or not array.flags.c_contiguous:
        return []
    if array.dtype == np.int64:
        places = [0]
    elif array.dtype.fields is not None:
        places = [offset for kind, offset, *_ in array.dtype.fields.values() if kind == np.int64]
    else:
        return []
    rows = array.reshape(-1).view(np.uint8).reshape(-1, array.dtype.itemsize)
    found = []
    for place in places:
        values = np.ascontiguousarray(rows[:, place : place + _WORD]).view(np.int64).ravel()
        for row in np.flatnonzero(values >= _LOWEST).tolist():
            found.append((row * array.dtype.itemsize + place, int(values[row])))
    return found


def _span(array: NDArray[Any]) -> _Span:
    """Return where the bytes of an array lie; NumPy's own byte_bounds has changed its place between versions."""
    low = high = int(array.ctypes.data)
    if array.size == 0:
        return _Span(low, low, array)
    for size, stride in zip(array.shape, array.strides, strict=True):
        low += min(0, (size - 1) * stride)
        high += max(0, (size - 1) * stride)
    return _Span(low, high + array.dtype.itemsize, array)


def _outermost(spans: Iterable[_Span]) -> list[_Span]:
    """Return the spans that lie in no other one, in order."""
    found: list[_Span] = []
    for span in sorted(spans, key=lambda span: (span.start, -span.end)):
        if not found or span.end > found[-1].end:
            found.append(span)
    return found


def _arrays(owners: Iterable[object], known: dict[int, object]) -> list[NDArray[Any]]:
    """Return the arrays that objects own, directly or through what they own; `known` has been looked at."""
    found: list[NDArray[Any]] = []
    todo = list(owners)
    while todo:
        one = todo.pop()
        if id(one) in known:
            continue
        if isinstance(one, np.ndarray):
            known[id(one)] = one
            if one.size:
                found.append(one)
        elif isinstance(one, tuple | list):
            todo.extend(one)
        elif isinstance(one, dict):
            todo.extend(one.values())
        elif type(one).__module__.startswith(_PACKAGES):
            known[id(one)] = one
            todo.extend(_attributes(one))
    return found


def _attributes(one: object) -> list[object]:
    """Return what an object of ours holds."""
    names = [name for kind in type(one).__mro__ for name in _slots(kind)]
    return (
        [*vars(one).values()]
        if hasattr(one, "__dict__")
        else [getattr(one, name) for name in names if hasattr(one, name)]
    )


def _slots(kind: type) -> tuple[str, ...]:
    slots = vars(kind).get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)
