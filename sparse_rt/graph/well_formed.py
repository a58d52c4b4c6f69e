"""What a file must hold before anybody looks closer: the checks of our own against damaged and hostile models.

Whether a model is a valid one is onnxruntime's to say (:mod:`sparse_rt.graph.stock_view`); what is refused here would
make it, or us, take memory or time without bounds, or read what is not there.
"""

import math
from collections.abc import Iterable, Mapping

import onnx
import onnx_ir as ir

from sparse_rt.errors import ModelError, message
from sparse_rt.graph.operators import DOMAIN, VERSION
from sparse_rt.protos import attribute_tensors, graphs, initializers, node_lists, subgraphs

__all__ = ["MOST_NODES", "check_functions", "check_tensors", "check_texts", "check_version", "tensor_nbytes"]

MOST_NODES = 1_000_000
"""Nodes of a model after its functions are inlined. The largest known models have some ten thousand."""

_MOST_BYTES = 1 << 62
#: The version that onnxruntime writes for domains of custom operators, in every model that a process saves which has
#: registered them, whether the model uses them or not.
_REGISTERED = 1000
_EXPORT_AGAIN = "Export the model again."
_Key = tuple[str, str, str]


def check_version(proto: onnx.ModelProto, where: str) -> None:
    """Raise ModelError unless there is a graph, and operators of ours are of the version that we know.

    What onnxruntime says where a library of ours was registered becomes that version.
    """
    if not proto.HasField("graph"):
        raise ModelError(message(where, "a graph with nodes and outputs", "an empty graph", _EXPORT_AGAIN))
    for opset in proto.opset_import:
        if opset.domain == DOMAIN and opset.version == _REGISTERED:
            opset.version = VERSION
        elif opset.domain == DOMAIN and opset.version != VERSION:
            expected = f"{DOMAIN} operators of version {VERSION}"
            raise ModelError(message(where, expected, str(opset.version), "Update sparse_rt."))


def check_texts(proto: onnx.ModelProto, where: str) -> None:
    """Raise ModelError if the name of a value, an operator or a domain is no UTF-8, or holds NUL.

    protobuf gives bytes for what it cannot decode. Names that nothing depends on are made readable.
    """
    for graph in graphs(proto):
        names = [item.name for item in (*graph.input, *graph.output, *graph.value_info)]
        names += [tensor.name for tensor in initializers(graph)]
        _check_names(names, where)
        _make_readable(graph, "name", "doc_string")
        for item in (*graph.input, *graph.output, *graph.value_info, *initializers(graph)):
            _make_readable(item, "doc_string")
    for nodes in node_lists(proto):
        for node in nodes:
            _check_names((node.op_type, node.domain, node.overload, *node.input, *node.output), where)
            _check_names((attribute.name for attribute in node.attribute), where)
            _make_readable(node, "name", "doc_string")
            for attribute in node.attribute:
                _make_readable(attribute, "doc_string")
    for function in proto.functions:
        _check_names((function.name, function.domain, function.overload), where)
        _check_names((*function.input, *function.output, *function.attribute), where)
        _make_readable(function, "doc_string")
    _check_names((opset.domain for item in (proto, *proto.functions) for opset in item.opset_import), where)
    _make_readable(proto, "doc_string", "producer_name", "producer_version", "domain")
    for entry in proto.metadata_props:
        _make_readable(entry, "key", "value")


def _check_names(names: Iterable[object], where: str) -> None:
    for name in names:
        if not isinstance(name, str):
            raise ModelError(message(where, "names in UTF-8", repr(name), _EXPORT_AGAIN))
        if "\0" in name:
            raise ModelError(message(where, "names without NUL", repr(name), _EXPORT_AGAIN))


def _make_readable(item: object, *fields: str) -> None:
    for field in fields:
        text = getattr(item, field)
        if isinstance(text, bytes):
            setattr(item, field, text.decode("utf-8", "backslashreplace"))


def check_functions(proto: onnx.ModelProto, where: str) -> None:
    """Raise ModelError if functions call each other in a circle, or hold too many nodes when they are inlined."""
    functions = {(function.domain, function.name, function.overload): function for function in proto.functions}
    if not functions:
        return
    calls = {key: _count(function.node, functions) for key, function in functions.items()}
    sizes: dict[_Key, int] = {}
    waiting: list[_Key] = list(calls)
    under_way: set[_Key] = set()
    while waiting:
        key = waiting[-1]
        inner = calls[key][1]
        open_calls = [called for called in inner if called not in sizes]
        if key not in sizes and open_calls:
            circle = [called for called in open_calls if called in under_way or called == key]
            if circle:
                name = ".".join(part for part in circle[0] if part)
                raise ModelError(message(where, "functions that do not call themselves", f"'{name}', which does"))
            under_way.add(key)
            waiting.extend(open_calls)
            continue
        if key not in sizes:
            sizes[key] = calls[key][0] + sum(times * sizes[called] for called, times in inner.items())
        under_way.discard(key)
        waiting.pop()
    own, called_by_graph = _count(proto.graph.node, functions)
    total = own + sum(times * sizes[called] for called, times in called_by_graph.items())
    if total > MOST_NODES:
        expected = f"at most {MOST_NODES} nodes when functions are inlined"
        raise ModelError(message(where, expected, f"about 2**{total.bit_length() - 1}"))


def _count(nodes: Iterable[onnx.NodeProto], functions: Mapping[_Key, object]) -> tuple[int, dict[_Key, int]]:
    """Return how many nodes there are, subgraphs included, and how often each function is called."""
    count, calls = 0, dict[_Key, int]()
    waiting = [nodes]
    while waiting:
        for node in waiting.pop():
            count += 1
            key = (node.domain, node.op_type, node.overload)
            if key in functions:
                calls[key] = calls.get(key, 0) + 1
            waiting.extend(graph.node for graph in subgraphs(node))
    return count, calls


def check_tensors(proto: onnx.ModelProto, where: str, data: Mapping[int, memoryview]) -> None:
    """Raise ModelError if a tensor's shape lies about its elements; `data` has those of some initializers, by number.

    None may be external any more.
    """
    for graph in graphs(proto):
        elsewhere = data if graph is proto.graph else {}
        for number, tensor in enumerate(graph.initializer):
            _check_size(tensor, where, elsewhere.get(number))
        for sparse in graph.sparse_initializer:
            _check_size(sparse.values, where)
            _check_size(sparse.indices, where)
    for nodes in node_lists(proto):
        for tensor in attribute_tensors(nodes):
            _check_size(tensor, where)


def tensor_nbytes(tensor: onnx.TensorProto, where: str) -> int:
    """Return the bytes that a tensor's type and shape need.

    Raises
    ------
    ModelError
        The type is unknown, or is a string's; a size is negative; the bytes are more than any memory has.
    """
    at = f"{where}, tensor '{tensor.name}'"
    try:
        bits = ir.DataType(tensor.data_type).bitwidth
    except (ValueError, TypeError):
        got = f"number {tensor.data_type}"
        raise ModelError(message(at, "an element type of fixed size", got, _EXPORT_AGAIN)) from None
    if min(tensor.dims, default=0) < 0:
        raise ModelError(message(at, "a shape without negative sizes", str(list(tensor.dims)), _EXPORT_AGAIN))
    if math.prod(size or 1 for size in tensor.dims) * bits // 8 > _MOST_BYTES:
        raise ModelError(message(at, "a shape that memory can hold", str(list(tensor.dims)), _EXPORT_AGAIN))
    return -(-math.prod(map(int, tensor.dims)) * int(bits) // 8)


def _check_size(tensor: onnx.TensorProto, where: str, data: memoryview | None = None) -> None:
    """Raise if a tensor's shape lies about the elements that the file holds for it; `data` if it is not in `tensor`."""
    if not tensor.data_type:  # absent: the tensor of an attribute that refers to another one
        return
    at = f"{where}, tensor '{tensor.name}'"
    if tensor.data_type == onnx.TensorProto.STRING:
        count = len(tensor.string_data)
        if min(tensor.dims, default=0) < 0 or math.prod(tensor.dims) != count:
            raise ModelError(message(at, f"elements for string {list(tensor.dims)}", str(count), _EXPORT_AGAIN))
        return
    expected = tensor_nbytes(tensor, where)
    if data is not None or tensor.HasField("raw_data"):
        found = len(tensor.raw_data if data is None else data)
        if found != expected:
            rule = f"{expected} bytes for {_type_name(tensor)} {list(tensor.dims)}"
            raise ModelError(message(at, rule, str(found), _EXPORT_AGAIN))
        return
    try:
        onnx.numpy_helper.to_array(tensor)
    except (ValueError, TypeError, OverflowError) as error:
        rule = f"elements for {_type_name(tensor)} {list(tensor.dims)}"
        raise ModelError(message(at, rule, str(error).rstrip("."), _EXPORT_AGAIN)) from error


def _type_name(tensor: onnx.TensorProto) -> str:
    return str(onnx.TensorProto.DataType.Name(tensor.data_type)).lower()
