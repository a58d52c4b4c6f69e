"""Large tensors stay in the model's file: they are seen through a mapping of it, and never copied by protobuf."""

import mmap
import sys
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import onnx
import onnx_ir as ir

from sparse_rt.graph.wire import GRAPH, INITIALIZER, RAW_DATA, Field, fields, message_field

__all__ = ["MappedFile", "checkable", "forget", "map_file", "place", "release", "return_odd", "skeleton"]

#: Bytes from which on the data of a tensor stays in the file.
_LARGE: Final = 1 << 16
#: Element types that NumPy sees in the file as they are there.
_PLAIN: Final = frozenset(
    {
        *(ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE, ir.DataType.BOOL),
        *(ir.DataType.INT8, ir.DataType.INT16, ir.DataType.INT32, ir.DataType.INT64),
        *(ir.DataType.UINT8, ir.DataType.UINT16, ir.DataType.UINT32, ir.DataType.UINT64),
    }
)


class MappedFile(NamedTuple):
    """A model's file without the data of large initializers of its graph.

    Attributes
    ----------
    skeleton
        The file's content without them.
    data
        Where they are, by the initializer's number.
    """

    skeleton: bytes
    data: dict[int, memoryview]


def map_file(path: Path) -> MappedFile | None:
    """Return the mapping of a model's file; None if nothing is large or the file is not as expected."""
    if path.stat().st_size < _LARGE or sys.byteorder != "little":
        return None
    with path.open("rb") as file:
        content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    try:
        found = list(fields(content, 0, len(content)))
        graphs = [field for field in found if field.number == GRAPH]
        if len(graphs) != 1:  # protobuf would merge them
            return None
        graph, data = _without_data(content, graphs[0])
    except (IndexError, ValueError):
        return None
    if not data:
        return None
    parts = [content[field.first : field.last] for field in found if field.number != GRAPH]
    return MappedFile(b"".join((*parts, message_field(GRAPH, graph))), data)


def _without_data(content: memoryview, graph: Field) -> tuple[bytes, dict[int, memoryview]]:
    """Return a graph without the data of large initializers, and that data."""
    parts: list[bytes | memoryview] = []
    data: dict[int, memoryview] = {}
    number = 0
    for field in fields(content, graph.start, graph.last):
        part: bytes | memoryview = content[field.first : field.last]
        if field.number == INITIALIZER:
            if field.last - field.start >= _LARGE:
                inner = list(fields(content, field.start, field.last))
                raw = [each for each in inner if each.number == RAW_DATA]
                if len(raw) == 1 and raw[0].last - raw[0].start >= _LARGE:
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
    OSError, google.protobuf.message.DecodeError
        The file cannot be read, or is no protobuf.
    """
    found = map_file(path)
    proto = onnx.ModelProto()
    proto.ParseFromString(path.read_bytes() if found is None else found.skeleton)
    return proto


def checkable(proto: onnx.ModelProto, data: dict[int, memoryview]) -> onnx.ModelProto:
    """Return the model in a form that onnx.checker accepts if it would accept the whole: those tensors are inputs."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    graph = copy.graph
    known = {value.name for value in graph.input}
    for number in sorted(data, reverse=True):
        tensor = graph.initializer[number]
        if tensor.name not in known:
            graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
        del graph.initializer[number]
    return copy


def return_odd(proto: onnx.ModelProto, data: dict[int, memoryview]) -> dict[int, memoryview]:
    """Put data back into tensors of a skeleton that are not plain arrays; return the others'."""
    kept = {}
    for number, content in data.items():
        tensor = proto.graph.initializer[number]
        if tensor.data_type in _PLAIN and tensor.data_location != onnx.TensorProto.EXTERNAL:
            kept[number] = content
        else:
            tensor.raw_data = bytes(content)
    return kept


def place(model: ir.Model, proto: onnx.ModelProto, data: dict[int, memoryview]) -> None:
    """Give the initializers of a model that was made of a skeleton their data, whose sizes are right."""
    for number, content in data.items():
        tensor = proto.graph.initializer[number]
        kind = ir.DataType(tensor.data_type)
        array = np.frombuffer(content, kind.numpy()).reshape(tuple(tensor.dims))
        model.graph.initializers[tensor.name].const_value = ir.Tensor(array, kind, name=tensor.name)


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
