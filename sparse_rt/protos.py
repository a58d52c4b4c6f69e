"""Walk the parts of a ModelProto, however deep they are nested, without recursion."""

from collections.abc import Iterable, Iterator

import onnx

__all__ = ["attribute_tensors", "graphs", "initializers", "node_lists", "subgraphs"]


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Yield the graphs among a node's attributes."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def graphs(proto: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    """Yield the graph of a model and every subgraph, those in functions included; each before what it holds."""
    yield proto.graph
    yield from _below(proto.graph.node)
    for function in proto.functions:
        yield from _below(function.node)


def _below(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.GraphProto]:
    waiting = [graph for node in nodes for graph in subgraphs(node)]
    while waiting:
        graph = waiting.pop()
        yield graph
        waiting.extend(inner for node in graph.node for inner in subgraphs(node))


def node_lists(proto: onnx.ModelProto) -> Iterator[Iterable[onnx.NodeProto]]:
    """Yield the nodes of every graph and of every function."""
    for graph in graphs(proto):
        yield graph.node
    for function in proto.functions:
        yield function.node


def initializers(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Yield the tensors of a graph's initializers; of sparse ones their values and indices."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield sparse.values
        yield sparse.indices


def attribute_tensors(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    """Yield the tensors among the attributes of nodes; of sparse ones their values and indices."""
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for sparse in (*([attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []),):
                yield sparse.values
                yield sparse.indices
            for sparse in attribute.sparse_tensors:
                yield sparse.values
                yield sparse.indices
