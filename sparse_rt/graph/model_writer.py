"""Write a model to a file: whole or not at all, and without a second copy of its weights in memory."""

import itertools
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
import onnx
import onnx_ir as ir

from sparse_rt.errors import ModelError, message
from sparse_rt.graph import model_io
from sparse_rt.graph.wire import GRAPH, INITIALIZER, RAW_DATA, head
from sparse_rt.output_file import file_path, open_output

__all__ = ["write"]

#: Bytes from which on an initializer is written from where it lies, without protobuf, or to the external file.
_LARGE: Final = 1 << 10
#: Where data begins in the external file: at pages, so that others can map it (see ONNX's ExternalData.md).
_PAGE: Final = 4096
_CACHE_LINE: Final = 64


def write(model: ir.Model, path: str | os.PathLike[str], *, external_data: bool | None = None) -> int:
    """Write a model to a file and return the number of bytes; on failure the old file stays as it was.

    Parameters
    ----------
    model
        Not changed.
    path
        Of the model; see :func:`sparse_rt.output_file.open_output` for links, pipes and devices. External data goes to
        ``<name>.data`` beside it; where that exists, which an old model may read until it is replaced, to
        the first of ``<name>.1.data``, ``<name>.2.data``, ... that does not, and the old data is removed then.
    external_data
        Whether initializers of 1 KiB and more go to the second file. By default where the tensors together are larger
        than :data:`sparse_rt.graph.model_io.EXTERNAL_DATA_LIMIT`.

    Raises
    ------
    ModelError
        The files cannot be written; a model of 2 GiB would go to what is no regular file.
    """
    target = file_path(path, ModelError, f"model '{os.fspath(path)}'")
    if external_data is None:
        external_data = model_io.tensor_bytes(model) > model_io.EXTERNAL_DATA_LIMIT
    large = {
        str(value.name): value.const_value
        for value in model.graph.initializers.values()
        if value.const_value is not None and _is_large(value.const_value)
    }
    if not external_data:
        without = _with(model, {name: _reference(tensor, target, 0) for name, tensor in large.items()})
        return _write_whole(without, large, target)
    where = f"model '{target}'"
    if target.exists() and not stat.S_ISREG(target.stat().st_mode):
        expected = "a regular file, beside which external data can lie"
        raise ModelError(message(where, expected, f"'{target}', which is none"))
    target = Path(os.path.realpath(target))
    old, data = _data_files(target)
    references = {}
    with open_output(data, ModelError, where) as file:
        for name, tensor in large.items():
            file.write(bytes(-file.tell() % (_CACHE_LINE if tensor.nbytes < _PAGE else _PAGE)))
            references[name] = _reference(tensor, data, file.tell())
            _write_tensor(tensor, file)
        size = file.tell()
    try:
        size += _write_whole(_with(model, references), {}, target)
    except BaseException:
        data.unlink(missing_ok=True)
        raise
    for file_of_old_model in old:
        file_of_old_model.unlink(missing_ok=True)
    return size


def _is_large(tensor: ir.TensorProtocol) -> bool:
    return tensor.dtype != ir.DataType.STRING and tensor.nbytes >= _LARGE


def _data_files(target: Path) -> tuple[list[Path], Path]:
    """Return the external data that older versions of this file may have left, and the first name that is free."""
    old: list[Path] = []
    for number in itertools.count():
        path = target.with_name(f"{target.name}.{number}.data" if number else f"{target.name}.data")
        if not path.exists():
            break
        old.append(path)
    return old, path


def _with(model: ir.Model, tensors: Mapping[str, ir.TensorProtocol]) -> ir.Model:
    """Return the model with other tensors in place of some initializers', and with no data in files of others."""
    copy = model.clone()
    for graph in copy.graphs():
        for value in graph.initializers.values():
            if graph is copy.graph and value.name in tensors:
                value.const_value = tensors[str(value.name)]
            elif isinstance(value.const_value, ir.ExternalTensor):
                array = np.array(value.const_value.numpy())
                value.const_value = ir.Tensor(array, value.const_value.dtype, name=value.name)
    return copy


def _reference(tensor: ir.TensorProtocol, file: Path, offset: int) -> ir.ExternalTensor:
    shape, name = ir.Shape(tensor.shape.numpy()), tensor.name or ""
    return ir.ExternalTensor(
        file.name, offset, tensor.nbytes, tensor.dtype, shape=shape, name=name, base_dir=file.parent
    )


def _write_whole(model: ir.Model, large: Mapping[str, ir.TensorProtocol], target: Path) -> int:
    """Write a model into one file, with the data of the initializers in `large`, to which `model` has references."""
    proto = model_io.proto_of(model)
    initializers = [(_start(tensor, large), large.get(tensor.name)) for tensor in proto.graph.initializer]
    sizes = [len(start) + _raw_data_size(tensor) for start, tensor in initializers]
    del proto.graph.initializer[:]
    graph = proto.graph.SerializeToString()
    proto.ClearField("graph")
    rest = proto.SerializeToString()
    total = len(graph) + sum(size + len(head(INITIALIZER, size)) for size in sizes)
    with open_output(target, ModelError, f"model '{target}'") as file:
        file.write(rest)
        file.write(head(GRAPH, total))
        file.write(graph)
        for (start, tensor), size in zip(initializers, sizes, strict=True):
            file.write(head(INITIALIZER, size))
            file.write(start)
            if tensor is not None:
                file.write(head(RAW_DATA, tensor.nbytes))
                _write_tensor(tensor, file)
    return len(rest) + len(head(GRAPH, total)) + total


def _start(proto: onnx.TensorProto, large: Mapping[str, ir.TensorProtocol]) -> bytes:
    """Return an initializer up to its data, if that follows."""
    if proto.name in large:
        for place in ("data_location", "external_data"):
            proto.ClearField(place)
    return bytes(proto.SerializeToString())


def _raw_data_size(tensor: ir.TensorProtocol | None) -> int:
    return 0 if tensor is None else len(head(RAW_DATA, tensor.nbytes)) + tensor.nbytes


def _write_tensor(tensor: ir.TensorProtocol, file: BinaryIO) -> None:
    """Write the elements, little-endian, without a copy where they lie so in memory."""
    array = tensor.numpy()
    is_plain = array.flags.c_contiguous and array.nbytes == tensor.nbytes and array.dtype.str[0] in "<|"
    file.write(array.reshape(-1).view(np.uint8).data if is_plain else tensor.tobytes())
