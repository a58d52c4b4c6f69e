"""Read ONNX models: from a path, bytes or a ModelProto; and make them a ModelProto again."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError, EncodeError

from sparse_rt import arguments
from sparse_rt.errors import ModelError, SparseRTError, message
from sparse_rt.external import ExternalData, check_regular, model_tensors
from sparse_rt.graph import initializer_inputs, mapped, well_formed
from sparse_rt.graph.layers.find import find_layers
from sparse_rt.graph.local_functions import lacks_functions, renew_functions
from sparse_rt.graph.nesting import check_nesting
from sparse_rt.graph.normal_form import TYPED_DATA, normalise
from sparse_rt.graph.stock_view import StockView, ask, has_custom_operators
from sparse_rt.graph.type_names import type_proto
from sparse_rt.protos import graphs

__all__ = ["EXTERNAL_DATA_LIMIT", "FOUND", "ModelSource", "proto_of", "read", "tensor_bytes", "to_proto"]

ModelSource = str | os.PathLike[str] | bytes | bytearray | memoryview | onnx.ModelProto

EXTERNAL_DATA_LIMIT = 2**31 - 2**26
"""Tensor bytes from which on a model is written with external data: protobuf ends at 2 GiB, nodes included."""

FOUND: Final = "sparse_rt.found"
"""Where the ``meta`` of an input or output has what onnxruntime says of it, a :class:`Typed`."""

_EXPORT_AGAIN = "Export the model again."


def read(source: ModelSource, *, custom_operators: bool = False) -> ir.Model:
    """Read a model that stock onnxruntime loads, in the form that :mod:`sparse_rt.graph.normal_form` describes.

    Large initializers stay where they are, mapped from disk, until they are used.

    Parameters
    ----------
    source
        A path, the bytes of a model, or a ModelProto, which is not changed.
        External data is found beside the path; for bytes and a ModelProto, in the working directory.
    custom_operators
        Whether operators of a domain that onnxruntime does not know are taken as they are.

    Raises
    ------
    ModelError
        The file does not exist or cannot be read; is not ONNX or is truncated; is refused by stock onnxruntime, or by
        the checks of :mod:`sparse_rt.graph.well_formed`; lacks external data; has functions of the domain ``sparse_rt``
        that are not what sparse_rt writes.
    """
    arguments.model("model", source)
    path = Path(source) if isinstance(source, str | os.PathLike) else None
    where = f"model '{path}'" if path is not None else "model"
    content = _split(source, path, where)
    proto = _parse(content.skeleton, where)
    well_formed.check_version(proto, where)
    well_formed.check_texts(proto, where)
    well_formed.check_functions(proto, where)
    data = _with_external(proto, path, where, content.data)
    well_formed.check_tensors(proto, where, data)
    try:
        view = ask(proto, where, data)
    except ModelError as refusal:
        # onnxruntime knows no operators of others, nor ours without their bodies.
        if not (lacks_functions(proto) or (custom_operators and has_custom_operators(proto))):
            _say_more(proto, where, data)
            raise refusal
        return _made(proto, where, data, None)
    return _made(proto, where, data, view)


def _made(proto: onnx.ModelProto, where: str, data: Mapping[int, memoryview], view: StockView | None) -> ir.Model:
    """Return the model, in the normal form."""
    elsewhere = {number: mapped.array_of(proto.graph.initializer[number], each) for number, each in data.items()}
    numbers = normalise(proto, view, where)
    _drop_maps(proto)
    model = _deserialize(proto, where)
    for name, value in model.graph.initializers.items():
        if (number := numbers.get(name, -1)) in elsewhere:
            value.const_value = elsewhere[number]
    renew_functions(model, where)
    if view is not None:
        for values, found in ((model.graph.inputs, view.inputs), (model.graph.outputs, view.outputs)):
            by_name = {item.name: item for item in found}
            for each in values:
                each.meta[FOUND] = by_name.get(str(each.name))
    initializer_inputs.take_out(model)
    return model


def _say_more(proto: onnx.ModelProto, where: str, data: Mapping[int, memoryview]) -> None:
    """Raise an error of our own if a layer is why onnxruntime refuses a model: it says more."""
    try:
        find_layers(_made(proto, where, data, None))
    except SparseRTError:
        raise
    except Exception:  # whatever else is wrong with the model, onnxruntime has said it
        return


def _split(source: ModelSource, path: Path | None, where: str) -> mapped.Split:
    """Return the serialised model, and the data of large initializers of its graph, by number."""
    if isinstance(source, onnx.ModelProto):
        check_nesting(source, where)
        try:
            return mapped.split_proto(source)
        except (EncodeError, ValueError) as error:
            expected = "a model that protobuf can serialise: below 2 GiB without its weights, not nested too deeply"
            raise ModelError(message(where, expected, _first_line(error))) from error
    if isinstance(source, bytes | bytearray | memoryview):
        return mapped.split(memoryview(source if isinstance(source, bytes) else bytes(source)))
    check_regular(source, where)
    try:
        return mapped.map_file(Path(source))
    except (OSError, ValueError) as error:
        got = getattr(error, "strerror", None) or _first_line(error)
        raise ModelError(message(where, "a readable ONNX file", got)) from error


def _parse(content: bytes | memoryview, where: str) -> onnx.ModelProto:
    if not content:
        raise ModelError(message(where, "an ONNX file", "an empty file", _EXPORT_AGAIN))
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(bytes(content))
    except DecodeError as error:
        got = f"{len(content)} bytes that do not parse (not ONNX, or truncated)"
        raise ModelError(message(where, "an ONNX file", got, _EXPORT_AGAIN)) from error
    return proto


def _with_external(
    proto: onnx.ModelProto, path: Path | None, where: str, data: Mapping[int, memoryview]
) -> dict[int, memoryview]:
    """Return `data` with what large initializers of the graph have in other files; put all other such data in `proto`.

    What is no plain array is put there, too.
    """
    found = dict(data)
    files = ExternalData(path, where)
    for number, tensor in enumerate(proto.graph.initializer):
        content = found.pop(number, None)
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            content = files.of(tensor, well_formed.tensor_nbytes(tensor, where))
            _make_internal(tensor)
        if content is None:
            continue
        if mapped.is_plain(tensor) and len(content) >= mapped.LARGE:
            found[number] = content
        else:
            tensor.raw_data = bytes(content)
    for tensor in model_tensors(proto):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            content = files.of(tensor, well_formed.tensor_nbytes(tensor, where))
            _make_internal(tensor)
            tensor.raw_data = bytes(content)
    return found


def _make_internal(tensor: onnx.TensorProto) -> None:
    for field in ("data_location", "external_data", "raw_data", *TYPED_DATA):
        tensor.ClearField(field)


def _drop_maps(proto: onnx.ModelProto) -> None:
    """Remove types with maps, or of nothing, which onnx_ir does not know."""
    said = [(*graph.input, *graph.output, *graph.value_info) for graph in graphs(proto)]
    for items in (*said, *(function.value_info for function in proto.functions)):
        for item in items:
            kind = item.type
            while (which := kind.WhichOneof("value")) in ("sequence_type", "optional_type"):
                kind = getattr(kind, which).elem_type
            if which in ("map_type", None):
                item.ClearField("type")


def _deserialize(proto: onnx.ModelProto, where: str) -> ir.Model:
    try:
        return ir.from_proto(proto)
    except Exception as error:  # onnx_ir promises no types
        raise ModelError(message(where, "a well-formed ONNX graph", _cause(error), _EXPORT_AGAIN)) from error


def _cause(error: BaseException) -> str:
    """Return what the innermost error says, which onnx_ir wraps once for each thing that it is part of."""
    while error.__cause__ is not None:
        error = error.__cause__
    return _first_line(error)


def _tensors(model: ir.Model) -> Iterator[ir.TensorProtocol]:
    for graph in model.graphs():
        for value in graph.initializers.values():
            if value.const_value is not None:
                yield value.const_value


def _first_line(error: BaseException) -> str:
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
    return proto_of(model)


def proto_of(model: ir.Model) -> onnx.ModelProto:
    """Return the model as a ModelProto, however large; external data stays where it is."""
    proto = ir.to_proto(model)
    _drop_initializer_infos(proto.graph)
    # onnx.checker wants a name; onnxruntime does not.
    proto.graph.name = proto.graph.name or "graph"
    values = {value.name: value for value in (*model.graph.inputs, *model.graph.outputs)}
    for item in (*proto.graph.input, *proto.graph.output):
        found = values[item.name].meta.get(FOUND)
        if found is not None and "map(" in found.type and (kind := type_proto(found.type)) is not None:
            item.type.CopyFrom(kind)
    initializer_inputs.put_back(model.graph, proto.graph)
    return proto


def _drop_initializer_infos(graph: onnx.GraphProto) -> None:
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
                _drop_initializer_infos(attribute.g)
            for subgraph in attribute.graphs:
                _drop_initializer_infos(subgraph)
