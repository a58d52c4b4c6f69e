"""Read ONNX models: from a path, bytes or a ModelProto; and make them a ModelProto again."""

import math
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError

from sparse_rt import arguments
from sparse_rt.errors import ModelError, message
from sparse_rt.graph import mapped
from sparse_rt.graph.local_functions import renew_functions
from sparse_rt.graph.nesting import check_nesting
from sparse_rt.graph.operators import DOMAIN, VERSION

__all__ = ["EXTERNAL_DATA_LIMIT", "ModelSource", "drop_initializer_infos", "read", "tensor_bytes", "to_proto"]

ModelSource = str | os.PathLike[str] | bytes | bytearray | memoryview | onnx.ModelProto

EXTERNAL_DATA_LIMIT = 2**31 - 2**26
"""Tensor bytes from which on a model is written with external data: protobuf ends at 2 GiB, nodes included."""

_EXPORT_AGAIN = "Export the model again."


def read(source: ModelSource) -> ir.Model:
    """Read and check a model.

    Large initializers of a file, and tensors in external files, stay there, mapped from disk when they are used.

    Parameters
    ----------
    source
        A path, the bytes of a model, or a ModelProto, which is not changed.
        External data is found beside the path; for bytes and a ModelProto, in the working directory.

    Raises
    ------
    ModelError
        The file does not exist or cannot be read; is not ONNX or is truncated; has an IR version, or an opset, newer
        than this onnx package knows; fails onnx.checker; lacks external data; has functions of the domain
        ``sparse_rt`` that are not what sparse_rt writes.
    """
    arguments.model("model", source)
    path = Path(source) if isinstance(source, str | os.PathLike) else None
    where = f"model '{path}'" if path is not None else "model"
    proto, data = _proto(source, path, where)
    _check_versions(proto, where)
    _check_content(proto, where, data)
    model = _deserialize(proto, path, where)
    mapped.place(model, proto, data)
    for tensor in external_tensors(model):
        _check_external(tensor, where)
    _check(proto, path, where, data)
    renew_functions(model, where)
    return model


def _proto(source: ModelSource, path: Path | None, where: str) -> tuple[onnx.ModelProto, dict[int, memoryview]]:
    """Return the model, and the data of those initializers of its graph that stay in the file, by number."""
    if isinstance(source, onnx.ModelProto):
        check_nesting(source, where)
        return _copy(source), {}
    try:
        found = None if path is None else mapped.map_file(path)
    except OSError:
        found = None
    if found is None:
        return _parse(_content(source, where), where), {}
    proto = _parse(found.skeleton, where)
    return proto, mapped.return_odd(proto, found.data)


def _content(source: str | os.PathLike[str] | bytes | bytearray | memoryview, where: str) -> bytes:
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source)
    try:
        return Path(source).read_bytes()
    except FileNotFoundError as error:
        raise ModelError(message(where, "an ONNX file", "no such file")) from error
    except OSError as error:
        raise ModelError(message(where, "a readable ONNX file", error.strerror or str(error))) from error


def _copy(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return a deep copy, because onnx_ir works on the tensors of the proto that it is given, and names them."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    return copy


def _parse(content: bytes, where: str) -> onnx.ModelProto:
    if not content:
        raise ModelError(message(where, "an ONNX file", "an empty file", _EXPORT_AGAIN))
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(content)
    except DecodeError as error:
        got = f"{len(content)} bytes that do not parse (not ONNX, or truncated)"
        raise ModelError(message(where, "an ONNX file", got, _EXPORT_AGAIN)) from error
    return proto


def _check_versions(proto: onnx.ModelProto, where: str) -> None:
    if not proto.HasField("graph") or not (proto.graph.node or proto.graph.output):
        raise ModelError(message(where, "a graph with nodes and outputs", "an empty graph", _EXPORT_AGAIN))
    if not 0 < proto.ir_version <= onnx.IR_VERSION:
        expected = f"ONNX IR version 1 to {onnx.IR_VERSION}"
        raise ModelError(message(where, expected, str(proto.ir_version), "Export with an older IR, or update onnx."))
    newest = onnx.defs.onnx_opset_version()
    for opset in proto.opset_import:
        if opset.domain in ("", "ai.onnx") and not 0 < opset.version <= newest:
            remedy = "Export with an older opset, or update onnx."
            raise ModelError(message(where, f"ai.onnx opset 1 to {newest}", str(opset.version), remedy))
        if opset.domain == DOMAIN and opset.version != VERSION:
            remedy = "Update sparse_rt."
            raise ModelError(message(where, f"{DOMAIN} operators of version {VERSION}", str(opset.version), remedy))


def _check_content(proto: onnx.ModelProto, where: str, data: Mapping[int, memoryview]) -> None:
    """Raise if a text is not UTF-8, or a tensor's shape lies about its elements; onnx.checker does not look there."""
    functions = [node for function in proto.functions for node in function.node]
    for graph in (proto.graph, *_subgraphs((*proto.graph.node, *functions))):
        _check_texts(graph.node, where)
        elsewhere = data if graph is proto.graph else {}
        for number, tensor in enumerate(graph.initializer):
            _check_size(tensor, where, elsewhere.get(number))
        for tensor in _attribute_tensors(graph.node):
            _check_size(tensor, where)
    _check_texts(functions, where)
    for tensor in _attribute_tensors(functions):
        _check_size(tensor, where)


def _subgraphs(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.GraphProto]:
    for node in nodes:
        for attribute in node.attribute:
            for graph in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
                yield graph
                yield from _subgraphs(graph.node)


def _attribute_tensors(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            yield from ([attribute.t] if attribute.HasField("t") else [])
            yield from attribute.tensors


def _check_texts(nodes: Iterable[onnx.NodeProto], where: str) -> None:
    for node in nodes:
        texts: tuple[object, ...] = (node.name, node.op_type, node.domain, node.overload, *node.input, *node.output)
        for text in (*texts, *(attribute.name for attribute in node.attribute)):
            # protobuf gives bytes for what it cannot decode.
            if not isinstance(text, str):
                raise ModelError(message(where, "names in UTF-8", repr(text), _EXPORT_AGAIN))


def _check_size(tensor: onnx.TensorProto, where: str, data: memoryview | None = None) -> None:
    """Raise if a tensor's shape lies about the elements that the file holds for it; `data` if it is not in `tensor`."""
    if tensor.data_location == onnx.TensorProto.EXTERNAL or not tensor.data_type:
        return
    at = f"{where}, tensor '{tensor.name}'"
    try:
        bits = ir.DataType(tensor.data_type).bitwidth
    except (ValueError, TypeError):
        if tensor.data_type == onnx.TensorProto.STRING:
            return
        got = f"number {tensor.data_type}"
        raise ModelError(message(at, "an element type that onnx knows", got, _EXPORT_AGAIN)) from None
    if min(tensor.dims, default=0) < 0:
        raise ModelError(message(at, "a shape without negative sizes", str(list(tensor.dims)), _EXPORT_AGAIN))
    if data is not None or tensor.HasField("raw_data"):
        expected = -(-math.prod(tensor.dims) * bits // 8)
        found = len(tensor.raw_data if data is None else data)
        if found != expected:
            rule = f"{expected} bytes for {_type_name(tensor)} {list(tensor.dims)}"
            raise ModelError(message(at, rule, str(found), _EXPORT_AGAIN))
        return
    try:
        onnx.numpy_helper.to_array(tensor)
    except (ValueError, TypeError, OverflowError) as error:
        rule = f"elements for {_type_name(tensor)} {list(tensor.dims)}"
        raise ModelError(message(at, rule, _first_line(error), _EXPORT_AGAIN)) from error


def _type_name(tensor: onnx.TensorProto) -> str:
    return str(onnx.TensorProto.DataType.Name(tensor.data_type)).lower()


def _deserialize(proto: onnx.ModelProto, path: Path | None, where: str) -> ir.Model:
    if proto.graph.sparse_initializer:
        proto = _densify(proto, where)
    try:
        model = ir.from_proto(proto)
    except (ir.serde.SerdeError, ValueError, TypeError, KeyError) as error:
        raise ModelError(message(where, "a well-formed ONNX graph", _first_line(error), _EXPORT_AGAIN)) from error
    ir.external_data.set_base_dir(model.graph, path.parent if path is not None else Path())
    return model


def _densify(proto: onnx.ModelProto, where: str) -> onnx.ModelProto:
    """Return a copy whose sparse initializers are dense ones, because onnx_ir leaves them out."""
    copy = _copy(proto)
    for sparse in copy.graph.sparse_initializer:
        name = sparse.values.name
        try:
            dense = np.zeros(tuple(sparse.dims), onnx.numpy_helper.to_array(sparse.values).dtype)
            indices = onnx.numpy_helper.to_array(sparse.indices)
            at = tuple(indices.T) if indices.ndim == 2 else np.unravel_index(indices, dense.shape)
            dense[at] = onnx.numpy_helper.to_array(sparse.values)
        except (ValueError, IndexError, TypeError) as error:
            at_tensor = f"{where}, sparse initializer '{name}'"
            raise ModelError(message(at_tensor, "values and indices that fit its shape", str(error))) from error
        copy.graph.initializer.append(onnx.numpy_helper.from_array(dense, name))
    del copy.graph.sparse_initializer[:]
    return copy


def external_tensors(model: ir.Model) -> Iterator[ir.ExternalTensor]:
    """Yield the initializers, of the graph and its subgraphs, whose data is in another file."""
    for tensor in _tensors(model):
        if isinstance(tensor, ir.ExternalTensor):
            yield tensor


def _tensors(model: ir.Model) -> Iterator[ir.TensorProtocol]:
    for graph in model.graphs():
        for value in graph.initializers.values():
            if value.const_value is not None:
                yield value.const_value


def _check_external(tensor: ir.ExternalTensor, where: str) -> None:
    """Raise unless the file has the bytes that the tensor says it has there."""
    remedy = "Keep the model and its data files together."
    offset, length = tensor.offset or 0, tensor.length if tensor.length is not None else tensor.nbytes
    if offset < 0 or length != tensor.nbytes:
        got = f"{length} at offset {offset}"
        raise ModelError(message(f"{where}, tensor '{tensor.name}'", f"{tensor.nbytes} bytes", got, _EXPORT_AGAIN))
    try:
        size = os.stat(tensor.path).st_size
    except OSError as error:
        expected = f"external data in '{tensor.path}'"
        got = error.strerror or str(error)
        raise ModelError(message(f"{where}, tensor '{tensor.name}'", expected, got, remedy)) from error
    if offset + length > size:
        expected = f"external data at {offset}..{offset + length} of '{tensor.path}'"
        raise ModelError(message(f"{where}, tensor '{tensor.name}'", expected, f"a file of {size} bytes", remedy))


def _check(proto: onnx.ModelProto, path: Path | None, where: str, data: dict[int, memoryview] | None = None) -> None:
    """Run onnx.checker, on the file where it names others, because it then finds them; without `data` else.

    The checker wants a shape for every input and output of the graph; onnxruntime takes models without. Those are
    checked with an empty shape in its place.
    """
    has_external = any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in proto.graph.initializer)
    if data and not has_external:
        proto, path = mapped.checkable(proto, data), None
    shapeless = [value for value in (*proto.graph.input, *proto.graph.output) if _lacks_shape(value)]
    try:
        if not shapeless:
            onnx.checker.check_model(proto if path is None else str(path))
        elif not has_external:
            copy = _copy(proto)
            for value in filter(_lacks_shape, (*copy.graph.input, *copy.graph.output)):
                value.type.tensor_type.shape.SetInParent()
            onnx.checker.check_model(copy)
    except (onnx.checker.ValidationError, ValueError) as error:
        raise ModelError(message(where, "a model that onnx.checker accepts", _first_line(error))) from error


def _lacks_shape(value: onnx.ValueInfoProto) -> bool:
    return value.type.HasField("tensor_type") and not value.type.tensor_type.HasField("shape")


def _first_line(error: Exception) -> str:
    return next((line.strip().rstrip(".") for line in str(error).splitlines() if line.strip()), type(error).__name__)


def tensor_bytes(model: ir.Model) -> int:
    """Return the bytes of all initializers, those of subgraphs included."""
    return sum(tensor.nbytes for tensor in _tensors(model))


def to_proto(model: ir.Model) -> onnx.ModelProto:
    """Return the model as one ModelProto, with external data read into it.

    Raises
    ------
    ModelError
        The tensors are larger than a ModelProto can be.
    """
    total = tensor_bytes(model)
    if total > EXTERNAL_DATA_LIMIT:
        expected = f"at most {EXTERNAL_DATA_LIMIT} bytes of tensors in one ModelProto"
        raise ModelError(message("model", expected, str(total), "Write it to a file instead."))
    if next(external_tensors(model), None) is not None:
        model = ir.external_data.load_to_model(model.clone())
    proto = ir.to_proto(model)
    drop_initializer_infos(proto.graph)
    return proto


def drop_initializer_infos(graph: onnx.GraphProto) -> None:
    """Remove the type and shape that onnx_ir repeats for every initializer.

    Tools that change an initializer, onnxruntime.quantization among them, do not look for a second copy of its shape.
    """
    initializers = {tensor.name for tensor in graph.initializer}
    kept = [info for info in graph.value_info if info.name not in initializers]
    del graph.value_info[:]
    graph.value_info.extend(kept)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                drop_initializer_infos(attribute.g)
            for subgraph in attribute.graphs:
                drop_initializer_infos(subgraph)
