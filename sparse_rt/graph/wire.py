"""The wire format of protobuf, as far as large tensors of a model's file need it.

Source: https://protobuf.dev/programming-guides/encoding/ and onnx.proto.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

__all__ = ["GRAPH", "INITIALIZER", "RAW_DATA", "Field", "fields", "head", "message_field"]

#: Fields of ModelProto, GraphProto and TensorProto.
GRAPH: Final = 7
INITIALIZER: Final = 5
RAW_DATA: Final = 9
# Kinds of field.
_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5


class Field(NamedTuple):
    """A field of a message: its number; where it begins and ends; where its bytes begin, if it is one of bytes."""

    number: int
    first: int
    start: int
    last: int


def fields(content: memoryview, at: int, end: int) -> Iterator[Field]:
    """Yield the fields of the message that lies between two places.

    Raises
    ------
    ValueError, IndexError
        There is no such message.
    """
    while at < end:
        first = at
        tag, at = _varint(content, at)
        kind = tag & 7
        start = at
        if kind == _VARINT:
            _, at = _varint(content, at)
        elif kind == _BYTES:
            size, start = _varint(content, at)
            at = start + size
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            at += 8 if kind == _EIGHT_BYTES else 4
        else:
            raise ValueError(f"a field of kind {kind}")
        if at > end:
            raise ValueError("a field that ends beyond its message")
        yield Field(tag >> 3, first, start, at)


def _varint(content: memoryview, at: int) -> tuple[int, int]:
    value, shift = 0, 0
    while True:
        byte = content[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7


def head(number: int, size: int) -> bytes:
    """Return what stands before the `size` bytes of a field that holds a message, a text or bytes."""
    parts = bytearray()
    for value in (number << 3 | _BYTES, size):
        left = value
        while left > 127:
            parts.append(left & 127 | 128)
            left >>= 7
        parts.append(left)
    return bytes(parts)


def message_field(number: int, body: bytes) -> bytes:
    """Return a field that holds a message."""
    return head(number, len(body)) + body
