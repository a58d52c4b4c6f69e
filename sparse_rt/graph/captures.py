"""What a node reads, with what its subgraphs capture of the graph around them."""

import onnx_ir as ir

__all__ = ["outer_inputs"]


def outer_inputs(node: ir.Node) -> tuple[ir.Value, ...]:
    """Return the values that a node reads from its own graph, those captured by its subgraphs included."""
    found = dict.fromkeys(value for value in node.inputs if value is not None)
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            found.update(dict.fromkeys(_captured(attribute.as_graph())))
        elif attribute.type == ir.AttributeType.GRAPHS:
            for graph in attribute.as_graphs():
                found.update(dict.fromkeys(_captured(graph)))
    return tuple(found)


def _captured(graph: ir.Graph) -> list[ir.Value]:
    """Return the values that a subgraph, nested ones included, reads from outside."""
    own = set(graph.inputs) | set(graph.initializers.values())
    for node in graph:
        own.update(node.outputs)
    read = [value for node in graph for value in outer_inputs(node)]
    read.extend(graph.outputs)
    return [value for value in read if value not in own]
