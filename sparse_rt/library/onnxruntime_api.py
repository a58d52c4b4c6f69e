"""onnxruntime's C interface for Python: what a node is, when a kernel is made of it, and its arrays in a run.

Functions are found by their places in `OrtApi` (onnxruntime_c_api.h), to which newer versions only add.
"""

import ctypes
from collections.abc import Callable
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["ELEMENT_TYPES", "Api", "ApiError"]

R = TypeVar("R")

#: ONNXTensorElementDataType by NumPy's dtypes.
ELEMENT_TYPES: Final = {
    name: number
    for number, name in enumerate(
        ("float32", "uint8", "int8", "uint16", "int16", "int32", "int64", "str", "bool", "float16", "float64"), 1
    )
}
_DTYPES: Final = {number: np.dtype(name) for name, number in ELEMENT_TYPES.items() if name != "str"}

# Places of functions.
_GET_ERROR_MESSAGE, _RELEASE_STATUS = 2, 93
_TENSOR_DATA, _CAST_TYPE_INFO, _ELEMENT_TYPE, _RANK, _SIZES = 51, 55, 60, 61, 62
_TYPE_AND_SHAPE, _DEFAULT_ALLOCATOR = 65, 78
_GET_FLOAT, _GET_INT, _GET_STRING = 85, 86, 87
_CONTEXT_INPUT, _CONTEXT_OUTPUT = 90, 91
_RELEASE_VALUE, _RELEASE_TYPE_INFO, _RELEASE_SHAPE = 96, 98, 99
_GET_FLOATS, _GET_INTS = 162, 163
_INPUT_COUNT, _OUTPUT_COUNT, _INPUT_NAME, _OUTPUT_NAME, _INPUT_TYPE, _OUTPUT_TYPE = 230, 231, 232, 233, 234, 235
_GET_TENSOR, _NODE_NAME, _CONSTANT_INPUT = 236, 244, 249
_OK: Final = 0


class ApiError(Exception):
    """A function of onnxruntime's failed; its own words."""


class Api:
    """The functions of one onnxruntime.

    Parameters
    ----------
    address
        Of its `OrtApi`.
    """

    def __init__(self, address: int) -> None:
        self.address = address
        self._functions = ctypes.cast(address, ctypes.POINTER(ctypes.c_void_p))

    def _function(self, place: int, result: Any) -> Callable[..., Any]:
        return ctypes.CFUNCTYPE(result)(self._functions[place] or 0)

    def _call(self, place: int, *arguments: Any) -> None:
        """Call a function that returns a status."""
        words = [ctypes.c_void_p(each) if isinstance(each, int) else each for each in arguments]
        status = self._function(place, ctypes.c_void_p)(*words)
        if status:
            text = self._function(_GET_ERROR_MESSAGE, ctypes.c_char_p)(ctypes.c_void_p(status))
            self._release(_RELEASE_STATUS, status)
            raise ApiError((text or b"").decode(errors="replace"))

    def _release(self, place: int, what: int) -> None:
        self._function(place, None)(ctypes.c_void_p(what))

    def _word(self, place: int, *arguments: Any) -> int:
        """Return the word or pointer that a function puts into its last argument."""
        found = ctypes.c_int64(0)
        self._call(place, *arguments, ctypes.byref(found))
        return found.value

    def _text(self, place: int, *arguments: Any) -> bytes:
        size = ctypes.c_size_t(0)
        self._call(place, *arguments, 0, ctypes.byref(size))
        room = ctypes.create_string_buffer(size.value)
        self._call(place, *arguments, room, ctypes.byref(size))
        return room.raw[: size.value].rstrip(b"\0")

    def _array_attribute(self, place: int, info: int, name: bytes, item: Any) -> tuple[Any, ...]:
        count = ctypes.c_size_t(0)
        self._call(place, info, name, 0, ctypes.byref(count))
        room = (item * max(1, count.value))()
        self._call(place, info, name, room, ctypes.byref(count))
        return tuple(room[: count.value])

    def node_name(self, info: int) -> str:
        """Return the name of a kernel's node."""
        return self._text(_NODE_NAME, info).decode(errors="replace")

    def inputs(self, info: int) -> list[str]:
        """Return the names of the values that a node reads, "" for one that it leaves out."""
        return [self._text(_INPUT_NAME, info, index).decode() for index in range(self._word(_INPUT_COUNT, info))]

    def output_count(self, info: int) -> int:
        """Return how many values a node writes."""
        return self._word(_OUTPUT_COUNT, info)

    def integer(self, info: int, name: str) -> int:
        """Return an attribute. Raises ApiError if there is none."""
        return self._word(_GET_INT, info, name.encode())

    def integers(self, info: int, name: str) -> tuple[int, ...]:
        """Return an attribute. Raises ApiError if there is none."""
        return self._array_attribute(_GET_INTS, info, name.encode(), ctypes.c_int64)

    def number(self, info: int, name: str) -> float:
        """Return an attribute. Raises ApiError if there is none."""
        found = ctypes.c_float(0)
        self._call(_GET_FLOAT, info, name.encode(), ctypes.byref(found))
        return found.value

    def numbers(self, info: int, name: str) -> tuple[float, ...]:
        """Return an attribute. Raises ApiError if there is none."""
        return self._array_attribute(_GET_FLOATS, info, name.encode(), ctypes.c_float)

    def text(self, info: int, name: str) -> str:
        """Return an attribute. Raises ApiError if there is none."""
        return self._text(_GET_STRING, info, name.encode()).decode()

    def tensor(self, info: int, name: str) -> NDArray[Any]:
        """Return an attribute. Raises ApiError if there is none."""
        value = self._word(_GET_TENSOR, info, name.encode(), self._word(_DEFAULT_ALLOCATOR))
        try:
            return self._array(value).copy()
        finally:
            self._release(_RELEASE_VALUE, value)

    def constant(self, info: int, index: int) -> NDArray[Any] | None:
        """Return an input that is constant, as long as the session lives; None for others."""
        is_constant = ctypes.c_int(0)
        value = self._word(_CONSTANT_INPUT, info, index, ctypes.byref(is_constant))
        return self._array(value) if is_constant.value and value else None

    def input_type(self, info: int, index: int) -> tuple[np.dtype[Any], tuple[int | None, ...] | None]:
        """Return dtype and shape of an input, None for sizes that are open. Raises ApiError if it is left out.

        onnxruntime calls a shape of which it knows nothing that of a scalar: it is None, too.
        """
        held = self._word(_INPUT_TYPE, info, index)
        try:
            shape = self._word(_CAST_TYPE_INFO, held)
            dtype, sizes = self._type_and_sizes(shape)
        finally:
            self._release(_RELEASE_TYPE_INFO, held)
        return dtype, tuple(None if size < 0 else size for size in sizes) or None

    def input_array(self, context: int, index: int) -> NDArray[Any]:
        """Return an input of a run; it lasts as long as the run."""
        return self._array(self._word(_CONTEXT_INPUT, context, index))

    def output_array(self, context: int, index: int, shape: tuple[int, ...]) -> NDArray[Any]:
        """Return an output of a run, to be written, of a shape."""
        sizes = (ctypes.c_int64 * max(1, len(shape)))(*shape)
        return self._array(self._word(_CONTEXT_OUTPUT, context, index, sizes, len(shape)))

    def _type_and_sizes(self, shape: int) -> tuple[np.dtype[Any], list[int]]:
        number = self._word(_ELEMENT_TYPE, shape) & 0xFFFFFFFF
        if number not in _DTYPES:
            raise ApiError(f"expected an element type of numbers, got number {number}")
        rank = self._word(_RANK, shape)
        sizes = (ctypes.c_int64 * max(1, rank))()
        self._call(_SIZES, shape, sizes, rank)
        return _DTYPES[number], list(sizes[:rank])

    def _array(self, value: int) -> NDArray[Any]:
        shape = self._word(_TYPE_AND_SHAPE, value)
        try:
            dtype, sizes = self._type_and_sizes(shape)
        finally:
            self._release(_RELEASE_SHAPE, shape)
        nbytes = int(np.prod(sizes, dtype=np.int64)) * dtype.itemsize
        if not nbytes:
            return np.empty(sizes, dtype)
        address = self._word(_TENSOR_DATA, value)
        memory: Any = (ctypes.c_byte * nbytes).from_address(address)
        return np.ndarray(sizes, dtype, memory)
