"""Bring a model that onnxruntime loads to the one form that the rest of the house reads.

onnxruntime is lenient: nodes may stand in any order, the domain "" may be spelled "ai.onnx", opset imports may be
missing, several things may be said twice. Here all of that is settled as onnxruntime settles it.
"""

import heapq
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from sparse_rt.errors import ModelError, message
from sparse_rt.graph import stock_view
from sparse_rt.graph.operators import DOMAIN
from sparse_rt.graph.stock_view import StockView, Typed
from sparse_rt.graph.type_names import type_proto
from sparse_rt.protos import graphs, node_lists, subgraphs

__all__ = ["MOST_DENSE_BYTES", "TYPED_DATA", "normalise"]

MOST_DENSE_BYTES = 1 << 31
"""Of a sparse initializer, which onnxruntime makes dense inside a protobuf."""

_SPELLED_OUT = "ai.onnx"
TYPED_DATA = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data")
"""Fields of a tensor that hold its elements where ``raw_data`` does not; with both, onnxruntime takes the latter."""


def normalise(proto: onnx.ModelProto, view: StockView | None, where: str) -> dict[str, int]:
    """Change a model to the normal form.

    Parameters
    ----------
    proto
        Changed.
    view
        What onnxruntime says of it; None if it was not asked.
    where
        What to call the model in messages.

    Returns
    -------
    dict
        The number that each initializer of the graph had, by name.

    Raises
    ------
    ModelError
        Nodes read each other's values in a circle; a sparse initializer is no tensor, or is too large.
    """
    _spell_domains(proto)
    _drop_functions(proto)
    _complete_imports(proto)
    for nodes in node_lists(proto):
        _make_constants_dense(nodes, where)
    numbers = {}
    for graph in graphs(proto):
        kept = _settle_initializers(graph, where)
        if graph is proto.graph:
            numbers = kept
        _settle_values(graph)
        _sort(graph, where)
    if view is not None:
        _believe(proto.graph, view)
    return numbers


def _spell_domains(proto: onnx.ModelProto) -> None:
    for nodes in node_lists(proto):
        for node in nodes:
            if node.domain == _SPELLED_OUT:
                node.domain = ""
    for item in (proto, *proto.functions):
        # Of two versions the last one counts.
        versions = {"" if opset.domain == _SPELLED_OUT else opset.domain: opset.version for opset in item.opset_import}
        del item.opset_import[:]
        item.opset_import.extend(onnx.helper.make_opsetid(domain, version) for domain, version in versions.items())
    for function in proto.functions:
        if function.domain == _SPELLED_OUT:
            function.domain = ""


def _drop_functions(proto: onnx.ModelProto) -> None:
    """Drop functions that nothing calls, because onnxruntime's operator of that name is called, or no node is."""
    if not proto.functions:
        return
    known = stock_view.operators()
    functions = {
        (function.domain, function.name, function.overload): function
        for function in proto.functions
        if function.domain != "" and function.name not in known.get(function.domain, {})
    }
    called: set[tuple[str, str, str]] = set()
    waiting: list[Iterable[onnx.NodeProto]] = [proto.graph.node]
    while waiting:
        for node in waiting.pop():
            key = (node.domain, node.op_type, node.overload)
            if key in functions and key not in called:
                called.add(key)
                waiting.append(functions[key].node)
            waiting.extend(graph.node for graph in subgraphs(node))
    # Whether those of our domain may be there is for others to say, called or not.
    kept = [function for key, function in functions.items() if key in called or function.domain == DOMAIN]
    if len(kept) < len(proto.functions):
        copies = [onnx.FunctionProto.FromString(function.SerializeToString()) for function in kept]
        del proto.functions[:]
        proto.functions.extend(copies)


def _complete_imports(proto: onnx.ModelProto) -> None:
    """Import the newest version of every domain that nodes of graphs use without saying so."""
    imported = {opset.domain for opset in proto.opset_import}
    used = {node.domain for graph in graphs(proto) for node in graph.node}
    missing = sorted(used - imported)
    if missing:
        known = stock_view.operators()
        for domain in missing:
            if domain in known:
                proto.opset_import.add(domain=domain, version=max(known[domain].values()))


def _settle_initializers(graph: onnx.GraphProto, where: str) -> dict[str, int]:
    """Leave one initializer of each name, the first, dense; return the numbers that they had."""
    numbers: dict[str, int] = {}
    for number, tensor in enumerate(graph.initializer):
        if tensor.name:
            numbers.setdefault(tensor.name, number)
        if tensor.HasField("raw_data"):
            for field in TYPED_DATA:
                tensor.ClearField(field)
    kept = set(numbers.values())
    for number in range(len(graph.initializer) - 1, -1, -1):
        if number not in kept:
            del graph.initializer[number]
    for sparse in graph.sparse_initializer:
        # onnx_ir leaves them out.
        if sparse.values.name and sparse.values.name not in numbers:
            numbers[sparse.values.name] = -1
            graph.initializer.append(_dense(sparse, where))
    del graph.sparse_initializer[:]
    return numbers


def _make_constants_dense(nodes: Iterable[onnx.NodeProto], where: str) -> None:
    for node in nodes:
        if node.op_type == "Constant" and node.domain == "":
            for attribute in node.attribute:
                if attribute.name == "sparse_value" and attribute.HasField("sparse_tensor"):
                    dense = _dense(attribute.sparse_tensor, where)
                    attribute.CopyFrom(onnx.helper.make_attribute("value", dense))


def _dense(sparse: onnx.SparseTensorProto, where: str) -> onnx.TensorProto:
    name = sparse.values.name
    at_tensor = f"{where}, sparse initializer '{name}'"
    values = numpy_helper.to_array(sparse.values)
    if min(sparse.dims, default=0) < 0:
        raise ModelError(message(at_tensor, "a shape without negative sizes", str(list(sparse.dims))))
    count = 1
    for size in sparse.dims:
        count *= size
    if count * max(1, values.itemsize) > MOST_DENSE_BYTES:
        expected = f"at most {MOST_DENSE_BYTES} bytes when it is dense"
        raise ModelError(message(at_tensor, expected, f"shape {list(sparse.dims)} of {values.dtype}"))
    try:
        dense = np.zeros(tuple(sparse.dims), values.dtype)
        indices = numpy_helper.to_array(sparse.indices)
        if indices.min(initial=0) < 0:
            raise ValueError(f"the index {indices.min()}")
        at: Any = tuple(indices.T) if indices.ndim == 2 else np.unravel_index(indices, dense.shape)
        dense[at] = values
    except (ValueError, IndexError, TypeError, MemoryError) as error:
        raise ModelError(message(at_tensor, "values and indices that fit its shape", str(error).rstrip("."))) from error
    return numpy_helper.from_array(dense, name)


def _settle_values(graph: onnx.GraphProto) -> None:
    """Leave what is said of values that nodes write, once, without sizes that say nothing."""
    written = {name for node in graph.node for name in node.output}
    told = {item.name for item in (*graph.input, *graph.output)}
    infos = {info.name: info for info in graph.value_info if info.name in written and info.name not in told}
    if len(infos) < len(graph.value_info):
        kept = [onnx.ValueInfoProto.FromString(info.SerializeToString()) for info in infos.values()]
        del graph.value_info[:]
        graph.value_info.extend(kept)
    for item in (*graph.input, *graph.output, *graph.value_info):
        for shape in _shapes(item.type):
            for size in shape.dim:
                if size.dim_value < 0 or (size.HasField("dim_param") and not size.dim_param):
                    size.ClearField("value")


def _shapes(kind: onnx.TypeProto) -> Iterator[onnx.TensorShapeProto]:
    which = kind.WhichOneof("value")
    if which in ("tensor_type", "sparse_tensor_type"):
        yield getattr(kind, which).shape
    elif which in ("sequence_type", "optional_type"):
        yield from _shapes(getattr(kind, which).elem_type)


def _believe(graph: onnx.GraphProto, view: StockView) -> None:
    """Let the graph say nothing of its values that onnxruntime does not agree with."""
    for said, found in ((graph.input, view.inputs), (graph.output, view.outputs), (graph.value_info, view.inner)):
        by_name = {item.name: item for item in found}
        for item in said:
            if item.name in by_name:
                _correct(item, by_name[item.name])


def _correct(item: onnx.ValueInfoProto, found: Typed) -> None:
    which = item.type.WhichOneof("value")
    if which is None:
        kind = type_proto(found.type, found.shape or None)
        if kind is not None:
            item.type.CopyFrom(kind)
    elif which == "tensor_type":
        shape = item.type.tensor_type.shape
        if len(shape.dim) != len(found.shape):
            # An empty list is a scalar, or a rank that onnxruntime does not know since two statements contradict.
            item.type.tensor_type.ClearField("shape")
        for size, known in zip(shape.dim, found.shape, strict=False):
            if size.HasField("dim_value") and size.dim_value != known:
                size.ClearField("value")


def _sort(graph: onnx.GraphProto, where: str) -> None:
    """Put nodes behind those whose values they read, and else leave them in the order they are in."""
    producers = {name: number for number, node in enumerate(graph.node) for name in node.output if name}
    needs = [_needed(node, producers) for node in graph.node]
    if all(before < number for number, each in enumerate(needs) for before in each):
        return
    readers: dict[int, list[int]] = {}
    for number, each in enumerate(needs):
        for before in each:
            readers.setdefault(before, []).append(number)
    left = [len(each) for each in needs]
    ready = [number for number, count in enumerate(left) if not count]
    order: list[int] = []
    while ready:
        number = heapq.heappop(ready)
        order.append(number)
        for reader in readers.get(number, ()):
            left[reader] -= 1
            if not left[reader]:
                heapq.heappush(ready, reader)
    if len(order) < len(needs):
        first = graph.node[next(number for number, count in enumerate(left) if count)]
        name = first.name or (first.output[0] if first.output else first.op_type)
        raise ModelError(message(where, "nodes that read values written before", f"a circle through node '{name}'"))
    nodes = [onnx.NodeProto.FromString(graph.node[number].SerializeToString()) for number in order]
    del graph.node[:]
    graph.node.extend(nodes)


def _needed(node: onnx.NodeProto, producers: Mapping[str, int]) -> set[int]:
    """Return the numbers of the nodes whose values a node reads, or captures in its subgraphs."""
    read = {name for name in node.input if name in producers}
    waiting = [(graph, frozenset[str]()) for graph in subgraphs(node)]
    while waiting:
        graph, outside = waiting.pop()
        own = outside | _defined(graph)
        for inner in graph.node:
            read.update(name for name in inner.input if name in producers and name not in own)
            waiting.extend((each, own) for each in subgraphs(inner))
        read.update(output.name for output in graph.output if output.name in producers and output.name not in own)
    return {producers[name] for name in read}


def _defined(graph: onnx.GraphProto) -> set[str]:
    names = {item.name for item in graph.input} | {tensor.name for tensor in graph.initializer}
    names.update(sparse.values.name for sparse in graph.sparse_initializer)
    names.update(name for node in graph.node for name in node.output)
    return names
