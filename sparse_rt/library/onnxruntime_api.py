"""onnxruntime's C interface for Python: what a node is, when a kernel is made of it, and its arrays in a run.

Functions are found by their places in `OrtApi`, see :mod:`sparse_rt_kernels.custom_op.c_api`.
"""

import ctypes
from collections.abc import Callable
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from sparse_rt_kernels.custom_op import c_api

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
_WORD: Final = 8


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
        return ctypes.CFUNCTYPE(result)(self._functions[place // _WORD] or 0)

    def _call(self, place: int, *arguments: Any) -> None:
        """Call a function that returns a status."""
        words = [ctypes.c_void_p(each) if isinstance(each, int) else each for each in arguments]
        status = self._function(place, ctypes.c_void_p)(*words)
        if status:
            text = self._function(c_api.GET_ERROR_MESSAGE, ctypes.c_char_p)(ctypes.c_void_p(status))
            self._release(c_api.RELEASE_STATUS, status)
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
        return self._text(c_api.GET_NODE_NAME, info).decode(errors="replace")

    def inputs(self, info: int) -> list[str]:
        """Return the names of the values that a node reads, "" for one that it leaves out."""
        return [
            self._text(c_api.GET_INPUT_NAME, info, index).decode()
            for index in range(self._word(c_api.GET_INPUT_COUNT, info))
        ]

    def output_count(self, info: int) -> int:
        """Return how many values a node writes."""
        return self._word(c_api.GET_OUTPUT_COUNT, info)

    def integer(self, info: int, name: str) -> int:
        """Return an attribute. Raises ApiError if there is none."""
        return self._word(c_api.GET_INT, info, name.encode())

    def integers(self, info: int, name: str) -> tuple[int, ...]:
        """Return an attribute. Raises ApiError if there is none."""
        return self._array_attribute(c_api.GET_INTS, info, name.encode(), ctypes.c_int64)

    def number(self, info: int, name: str) -> float:
        """Return an attribute. Raises ApiError if there is none."""
        found = ctypes.c_float(0)
        self._call(c_api.GET_FLOAT, info, name.encode(), ctypes.byref(found))
        return found.value

    def numbers(self, info: int, name: str) -> tuple[float, ...]:
        """Return an attribute. Raises ApiError if there is none."""
        return self._array_attribute(c_api.GET_FLOATS, info, name.encode(), ctypes.c_float)

    def text(self, info: int, name: str) -> str:
        """Return an attribute. Raises ApiError if there is none."""
        return self._text(c_api.GET_TEXT, info, name.encode()).decode()

    def tensor(self, info: int, name: str) -> NDArray[Any]:
        """Return an attribute. Raises ApiError if there is none."""
        value = self._word(c_api.GET_TENSOR, info, name.encode(), self._word(c_api.GET_ALLOCATOR_WITH_DEFAULT_OPTIONS))
        try:
            return self._array(value).copy()
        finally:
            self._release(c_api.RELEASE_VALUE, value)

    def constant(self, info: int, index: int) -> NDArray[Any] | None:
        """Return an input that is constant, as long as the session lives; None for others."""
        is_constant = ctypes.c_int(0)
        value = self._word(c_api.GET_CONSTANT_INPUT, info, index, ctypes.byref(is_constant))
        return self._array(value) if is_constant.value and value else None

    def input_type(self, info: int, index: int) -> tuple[np.dtype[Any], tuple[int | None, ...] | None]:
        """Return dtype and shape of an input, None for sizes that are open. Raises ApiError if it is left out.

        onnxruntime calls a shape of which it knows nothing that of a scalar: it is None, too.
        """
        held = self._word(c_api.GET_INPUT_TYPE, info, index)
        try:
            shape = self._word(c_api.CAST_TYPE_INFO, held)
            dtype, sizes = self._type_and_sizes(shape)
        finally:
            self._release(c_api.RELEASE_TYPE_INFO, held)
        return dtype, tuple(None if size < 0 else size for size in sizes) or None

    def input_array(self, context: int, index: int) -> NDArray[Any]:
        """Return an input of a run; it lasts as long as the run."""
        return self._array(self._word(c_api.KERNEL_CONTEXT_GET_INPUT, context, index))

    def output_array(self, context: int, index: int, shape: tuple[int, ...]) -> NDArray[Any]:
        """Return an output of a run, to be written, of a shape."""
        sizes = (ctypes.c_int64 * max(1, len(shape)))(*shape)
        return self._array(self._word(c_api.KERNEL_CONTEXT_GET_OUTPUT, context, index, sizes, len(shape)))

    def _type_and_sizes(self, shape: int) -> tuple[np.dtype[Any], list[int]]:
        number = self._word(c_api.GET_ELEMENT_TYPE, shape) & 0xFFFFFFFF
        if number not in _DTYPES:
            raise ApiError(f"expected an element type of numbers, got number {number}")
        rank = self._word(c_api.GET_DIMENSIONS_COUNT, shape)
        sizes = (ctypes.c_int64 * max(1, rank))()
        self._call(c_api.GET_DIMENSIONS, shape, sizes, rank)
        return _DTYPES[number], list(sizes[:rank])

    def _array(self, value: int) -> NDArray[Any]:
        shape = self._word(c_api.GET_TENSOR_TYPE_AND_SHAPE, value)
        try:
            dtype, sizes = self._type_and_sizes(shape)
        finally:
            self._release(c_api.RELEASE_TENSOR_TYPE_AND_SHAPE_INFO, shape)
        nbytes = int(np.prod(sizes, dtype=np.int64)) * dtype.itemsize
        if not nbytes:
            return np.empty(sizes, dtype)
        address = self._word(c_api.GET_TENSOR_MUTABLE_DATA, value)
        memory: Any = (ctypes.c_byte * nbytes).from_address(address)
        return np.ndarray(sizes, dtype, memory)
