"""What a node reads, with what its subgraphs capture of the graph around them; and who reads a value."""

import onnx_ir as ir

__all__ = ["outer_inputs", "sole_consumer"]


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


def sole_consumer(value: ir.Value) -> ir.Node | None:
    """Return the one node of the same graph that reads `value`, if nobody else does."""
    if value.is_graph_output():
        return None
    uses = list(value.uses())
    if len(uses) != 1 or uses[0].node.graph is not value.graph:
        return None
    return uses[0].node


def _captured(graph: ir.Graph) -> list[ir.Value]:
    """Return the values that a subgraph, nested ones included, reads from outside."""
    own = set(graph.inputs) | set(graph.initializers.values())
    for node in graph:
        own.update(node.outputs)
    read = [value for node in graph for value in outer_inputs(node)]
    read.extend(graph.outputs)
    return [value for value in read if value not in own]
