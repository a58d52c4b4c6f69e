"""Large tensors stay in the model's file: they are seen through a mapping of it, and never copied by protobuf."""

import mmap
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import onnx
import onnx_ir as ir
from google.protobuf.message import Message

from sparse_rt.external import open_regular
from sparse_rt.graph.wire import GRAPH, INITIALIZER, RAW_DATA, Field, fields, message_field

__all__ = [
    "LARGE",
    "Split",
    "array_of",
    "forget",
    "is_plain",
    "map_file",
    "release",
    "skeleton",
    "split",
    "split_proto",
]

#: Bytes from which on the data of a tensor stays in the file.
LARGE: Final = 1 << 16
#: Element types that NumPy sees in the file as they are there.
_PLAIN: Final = frozenset(
    {
        *(ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE, ir.DataType.BOOL),
        *(ir.DataType.INT8, ir.DataType.INT16, ir.DataType.INT32, ir.DataType.INT64),
        *(ir.DataType.UINT8, ir.DataType.UINT16, ir.DataType.UINT32, ir.DataType.UINT64),
    }
)


class Split(NamedTuple):
    """A serialised model without the data of large initializers of its graph.

    Attributes
    ----------
    skeleton
        The model without them.
    data
        Views of them, by the initializer's number.
    """

    skeleton: bytes | memoryview
    data: dict[int, memoryview]


def map_file(path: Path) -> Split:
    """Return a model's file in parts, its large data mapped from disk.

    Raises
    ------
    OSError
        The file cannot be read.
    ValueError
        It is no regular file, or the path cannot be one.
    """
    handle = open_regular(path)
    with os.fdopen(handle, "rb") as file:
        if os.fstat(handle).st_size < LARGE:
            return Split(file.read(), {})
        return split(memoryview(mmap.mmap(handle, 0, access=mmap.ACCESS_READ)))


def split(content: memoryview) -> Split:
    """Return a serialised model in parts; whole where nothing is large or it is not as expected."""
    whole = Split(content, {})
    if len(content) < LARGE or sys.byteorder != "little":
        return whole
    try:
        found = list(fields(content, 0, len(content)))
        graphs = [field for field in found if field.number == GRAPH]
        if len(graphs) != 1:  # protobuf would merge them
            return whole
        graph, data = _without_data(content, graphs[0])
    except (IndexError, ValueError):
        return whole
    if not data:
        return whole
    parts = [content[field.first : field.last] for field in found if field.number != GRAPH]
    return Split(b"".join((*parts, message_field(GRAPH, graph))), data)


def split_proto(proto: onnx.ModelProto) -> Split:
    """Return a copy of a ModelProto in parts: its large data is copied once, and never serialised.

    Raises
    ------
    EncodeError, ValueError
        protobuf cannot serialise what is left: it is nested too deeply, or has 2 GiB.
    """
    data: dict[int, memoryview] = {}
    initializers = []
    for number, tensor in enumerate(proto.graph.initializer):
        if tensor.HasField("raw_data") and tensor.ByteSize() >= LARGE:
            data[number] = memoryview(tensor.raw_data)
            initializers.append(_without(tensor, onnx.TensorProto(), ("raw_data",)))
        else:
            initializers.append(tensor)
    graph = _without(proto.graph, onnx.GraphProto(), ("initializer",))
    graph.initializer.extend(initializers)
    skeleton = _without(proto, onnx.ModelProto(), ("graph",)).SerializeToString()
    if proto.HasField("graph"):
        skeleton += message_field(GRAPH, graph.SerializeToString())
    return Split(skeleton, data)


def _without(source: Any, target: Any, names: Sequence[str]) -> Any:
    """Copy all fields of a message but some; return the copy."""
    for field, value in source.ListFields():
        if field.name in names:
            continue
        if isinstance(value, str | bytes | int | float):
            setattr(target, field.name, value)
        elif isinstance(value, Message):
            getattr(target, field.name).CopyFrom(value)
        else:
            getattr(target, field.name).extend(value)
    return target


def _without_data(content: memoryview, graph: Field) -> tuple[bytes, dict[int, memoryview]]:
    """Return a graph without the data of large initializers, and that data."""
    parts: list[bytes | memoryview] = []
    data: dict[int, memoryview] = {}
    number = 0
    for field in fields(content, graph.start, graph.last):
        part: bytes | memoryview = content[field.first : field.last]
        if field.number == INITIALIZER:
            if field.last - field.start >= LARGE:
                inner = list(fields(content, field.start, field.last))
                raw = [each for each in inner if each.number == RAW_DATA]
                if len(raw) == 1 and raw[0].last - raw[0].start >= LARGE:
                    data[number] = content[raw[0].start : raw[0].last]
                    kept = b"".join(content[each.first : each.last] for each in inner if each.number != RAW_DATA)
                    part = message_field(INITIALIZER, kept)
            number += 1
        parts.append(part)
    return b"".join(parts), data


def skeleton(path: Path) -> onnx.ModelProto:
    """Return a model's file parsed, without the data of large initializers.

    Raises
    ------
    OSError, ValueError, google.protobuf.message.DecodeError
        The file cannot be read, or is no protobuf.
    """
    proto = onnx.ModelProto()
    proto.ParseFromString(bytes(map_file(path).skeleton))
    return proto


def is_plain(tensor: onnx.TensorProto) -> bool:
    """Return whether NumPy sees the elements of a tensor in its data as they are there."""
    return tensor.data_type in _PLAIN


def array_of(tensor: onnx.TensorProto, content: memoryview) -> ir.TensorProtocol:
    """Return an initializer whose plain data lies elsewhere, of the right size."""
    kind = ir.DataType(tensor.data_type)
    array = np.frombuffer(content, kind.numpy()).reshape(tuple(tensor.dims))
    return ir.Tensor(array, kind, name=tensor.name)


def forget(model: ir.Model) -> None:
    """Let go of the model's file, which may change from now on: initializers that lie in it have no data any more."""
    for value in model.graph.initializers.values():
        tensor = value.const_value
        if isinstance(tensor, ir.Tensor) and _mapping_of(tensor.raw) is not None:
            value.const_value = None


def _mapping_of(array: Any) -> mmap.mmap | None:
    """Return the mapping that an array is a view of."""
    base = array
    while isinstance(base, np.ndarray | memoryview):
        base = base.base if isinstance(base, np.ndarray) else base.obj
    return base if isinstance(base, mmap.mmap) else None


def release(array: np.ndarray[Any, Any]) -> None:
    """Give the memory of an array that lies in a mapped file back to the system, which reads it again when needed."""
    base = _mapping_of(array)
    if base is None or not array.size or not hasattr(base, "madvise"):
        return
    offset = array.ctypes.data - np.frombuffer(base, np.uint8).ctypes.data
    reach = [(size - 1) * stride for size, stride in zip(array.shape, array.strides, strict=True)]
    low = offset + sum(min(0, steps) for steps in reach)
    high = offset + sum(max(0, steps) for steps in reach) + array.itemsize
    first = low // mmap.PAGESIZE * mmap.PAGESIZE
    base.madvise(mmap.MADV_DONTNEED, first, high - first)
