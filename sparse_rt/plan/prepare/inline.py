"""Replace the calls of a model's own functions by their bodies."""

from collections.abc import Mapping

import onnx_ir as ir

from sparse_rt.graph.names import Names, fresh_name, value_names

__all__ = ["inline", "is_inlinable"]

_GRAPHS = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)


def is_inlinable(function: ir.Function) -> bool:
    """Return whether each output of a body is written there, once, and no attribute of a call is a graph."""
    outputs = list(function.outputs)
    written = all(output.producer() is not None for output in outputs)
    return (
        written
        and len(set(outputs)) == len(outputs)
        and all(a.type not in _GRAPHS for a in function.attributes.values())
    )


def inline(model: ir.Model, functions: Mapping[ir.OperatorIdentifier, ir.Function]) -> None:
    """Inline `functions` wherever the main graph and its subgraphs call them, and drop them.

    What calls write keeps its names; every value inside gets one that no other value of the model has, so that none
    hides another from a branch. The work grows as the model does that comes out of it.

    Parameters
    ----------
    model
        Changed. Its opsets are those of the functions, and no function calls itself.
    functions
        By identifier, each :func:`is_inlinable`.
    """
    values, nodes = value_names(model), Names()
    nodes.update(node.name for node in model.graph.all_nodes())
    graphs = [model.graph]
    while graphs:
        graph = graphs.pop()
        for node in graph:  # what takes a call's place comes next
            function = functions.get(node.op_identifier())
            if function is None:
                graphs.extend(_subgraphs(node))
                continue
            for domain, version in function.opset_imports.items():
                model.opset_imports.setdefault(domain, version)
            _expand(graph, node, function, values, nodes)
    for identifier in functions:
        del model.functions[identifier]


def _subgraphs(node: ir.Node) -> list[ir.Graph]:
    found: list[ir.Graph] = []
    for attribute in node.attributes.values():
        if attribute.is_ref():
            continue
        if attribute.type == ir.AttributeType.GRAPH:
            found.append(attribute.as_graph())
        elif attribute.type == ir.AttributeType.GRAPHS:
            found.extend(attribute.as_graphs())
    return found


def _expand(graph: ir.Graph, call: ir.Node, function: ir.Function, values: Names, nodes: Names) -> None:
    """Put the body of a function where it is called."""
    body = _Body(call, function, values, nodes)
    written = [body.node(node) for node in function]
    old = list(call.outputs)[: len(function.outputs)]
    new = [body.values[output] for output in list(function.outputs)[: len(old)]]
    ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
    for before, after in zip(old, new, strict=True):
        after.type = before.type if before.type is not None else after.type
        after.shape = before.shape if before.shape is not None else after.shape
        after.name = before.name or after.name  # one that nobody reads has none
    graph.insert_after(call, written)
    graph.remove(call, safe=True)


class _Body:
    """A copy of a function's body, in the making.

    Attributes
    ----------
    values
        What stands in the copy for each value that the body writes.
    """

    def __init__(self, call: ir.Node, function: ir.Function, names: Names, node_names: Names) -> None:
        given = [*call.inputs, *[None] * len(function.inputs)]
        self.values: dict[ir.Value, ir.Value] = {}
        self._given = dict(zip(function.inputs, given, strict=False))
        self._call = call
        defaults = {key: value for key, value in function.attributes.items() if value.value is not None}
        self._attributes = {**defaults, **call.attributes}
        self._names = names
        self._node_names = node_names

    def node(self, node: ir.Node) -> ir.Node:
        """Return a node's copy."""
        attributes = [found for key, value in node.attributes.items() if (found := self._attribute(key, value))]
        copy = ir.Node(
            node.domain,
            node.op_type,
            [self._read(value) for value in node.inputs],
            attributes,
            overload=node.overload,
            num_outputs=len(node.outputs),
            version=node.version,
            name=fresh_name(node.name, self._node_names) if node.name else None,
            doc_string=node.doc_string,
            metadata_props={**self._call.metadata_props, **node.metadata_props},
        )
        for old, new in zip(node.outputs, copy.outputs, strict=True):
            self._describe(old, new)
        return copy

    def _read(self, value: ir.Value | None) -> ir.Value | None:
        """Return what a node of the copy reads; None for an input that is left out, there or in the call."""
        if value is None or value in self._given:
            return None if value is None else self._given[value]
        return self.values.get(value, value)

    def _describe(self, old: ir.Value, new: ir.Value) -> None:
        self.values[old] = new
        # An output that is left out has no name.
        new.name = fresh_name(old.name, self._names) if old.name else old.name
        new.type = old.type
        new.shape = old.shape.copy() if old.shape is not None else None
        new.const_value = old.const_value

    def _attribute(self, key: str, attribute: ir.Attr) -> ir.Attr | None:
        """Return an attribute's copy; None for one that refers to an attribute which the call does not give."""
        if attribute.is_ref():
            found = self._attributes.get(str(attribute.ref_attr_name))
            if found is None:
                return None
            return ir.Attr(key, found.type, found.value, doc_string=attribute.doc_string)
        if attribute.type == ir.AttributeType.GRAPH:
            return ir.Attr(key, attribute.type, self._graph(attribute.as_graph()))
        if attribute.type == ir.AttributeType.GRAPHS:
            return ir.Attr(key, attribute.type, [self._graph(graph) for graph in attribute.as_graphs()])
        return attribute

    def _graph(self, graph: ir.Graph) -> ir.Graph:
        for value in (*graph.inputs, *graph.initializers.values()):
            if value not in self.values:
                self._describe(value, ir.Value())
        nodes = [self.node(node) for node in graph]
        return ir.Graph(
            [self.values[value] for value in graph.inputs],
            [self._read(value) or value for value in graph.outputs],
            nodes=nodes,
            initializers=[self.values[value] for value in graph.initializers.values()],
            doc_string=graph.doc_string,
            opset_imports=graph.opset_imports,
            name=graph.name,
            metadata_props=dict(graph.metadata_props),
        )
