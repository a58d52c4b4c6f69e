"""Put the neighbours that compressed operators hold back into the graph, as nodes of their own.

What reads compressed layers sees them so, however they were written: the operator alone, and around it the nodes that
a dense model has there.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import onnx_ir as ir

from sparse_rt.errors import ModelError, message
from sparse_rt.graph.layers.weights import constant_array
from sparse_rt.graph.names import Names, fresh_name, value_names
from sparse_rt.graph.neighbours.nodes import after_operator, before_operator
from sparse_rt.graph.neighbours.noted_names import take_noted
from sparse_rt.graph.neighbours.record import ALONE, OPERANDS
from sparse_rt.graph.operators import COMPRESSED, DOMAIN, CompressedForm

__all__ = ["restore"]

_CORRUPT = "The model is corrupt."


def restore(model: ir.Model) -> None:
    """Take every compressed operator with neighbours apart, in the graph, its subgraphs and the model's own functions.

    Nodes and values have the names that they had before, where the file has noted these; else a layer keeps its own. A
    DequantizeLinear that is there already, for others, is read by the layer as well.

    Parameters
    ----------
    model
        Changed.

    Raises
    ------
    ModelError
        A node has an input that its operator does not read, or lacks one.
    """
    opset = model.opset_imports.get("", 0)
    taken: _Taken | None = None
    functions = [function for function in model.functions.values() if function.domain != DOMAIN]
    for graph in (model.graph, *model.graph.subgraphs(), *(each for one in functions for each in _graphs(one))):
        behind: set[ir.Node] = set()
        for node in list(graph):
            form = COMPRESSED.get(node.op_type) if node.domain == DOMAIN else None
            if form is not None and form.neighbours != ALONE:
                taken = _Taken.of(model) if taken is None else taken
                _Parts(graph, node, form, taken, behind).put_back(opset)
            else:
                behind.add(node)


def _graphs(function: ir.Function) -> list[ir.Graph | ir.Function]:
    return [function, *function.subgraphs()]


class _Taken(NamedTuple):
    """The names that a model's values and nodes have, those in functions included."""

    values: Names
    nodes: Names

    @classmethod
    def of(cls, model: ir.Model) -> "_Taken":
        found = cls(value_names(model), Names())
        found.nodes.update(node.name for node in model.graph.all_nodes())
        for function in model.functions.values():
            found.values.update(value.name for value in function.inputs)
            for node in function.all_nodes():
                found.nodes.add(node.name)
                found.values.update(value.name for value in node.outputs)
        return found


class _Parts:
    """The nodes that one compressed operator is, in the making.

    Parameters
    ----------
    graph
        Where its node is.
    node
        The operator with its neighbours.
    form
        What it is.
    taken
        Names that others have.
    behind
        The nodes of the graph before it. The new ones are added.
    """

    def __init__(
        self, graph: ir.Graph | ir.Function, node: ir.Node, form: CompressedForm, taken: _Taken, behind: set[ir.Node]
    ) -> None:
        self._graph = graph
        self._node = node
        self._form = form
        self._taken = taken
        self._behind = behind
        self._nodes: list[ir.Node] = []
        self._noted = take_noted(node)[::-1]
        self._is_noted = bool(self._noted)

    def put_back(self, opset: int) -> None:
        """Replace the node."""
        neighbours, y = self._form.neighbours, self._node.outputs[0]
        inputs = self._inputs()
        own = {name: value for name, value in inputs.items() if name not in neighbours.operands}
        own |= before_operator(self._add, neighbours, inputs, opset)
        last = after_operator(self._add, neighbours, inputs, self._operator(own))
        last.meta.update(y.meta)
        last.type, last.shape = y.type, y.shape
        ir.convenience.replace_nodes_and_values(self._graph, self._node, [self._node], self._nodes, [y], [last])
        self._behind.update(self._nodes)

    def _inputs(self) -> dict[str, ir.Value]:
        """Return the node's inputs by name."""
        form, where = self._form, f"layer '{self._node.name or self._node.outputs[0].name}'"
        named = zip(form.inputs, self._node.inputs, strict=False)
        inputs = {name: value for name, value in named if value is not None}
        for name in ("x", *form.neighbours.operands):
            if name not in inputs:
                raise ModelError(message(where, f"an input {name} for {form.op_type}", "none", _CORRUPT))
        for name in OPERANDS:
            if name in inputs and name not in form.neighbours.operands:
                raise ModelError(message(where, f"no {name} for {form.op_type}", "one", _CORRUPT))
        return inputs

    def _operator(self, inputs: Mapping[str, ir.Value]) -> ir.Value:
        """Add the operator alone, which is the layer, under the layer's name."""
        old, form = self._node, replace(self._form, neighbours=ALONE)
        node = ir.Node(
            old.domain,
            form.op_type,
            [inputs.get(name) for name in form.inputs],
            old.attributes.values(),
            doc_string=old.doc_string,
            metadata_props=old.metadata_props,
        )
        while node.inputs[-1] is None:
            node.resize_inputs(len(node.inputs) - 1)
        self._taken.nodes.discard(old.name)
        y = self._added(node, old.outputs[0].shape)
        if not self._is_noted:
            node.name = old.name
        return y

    def _add(self, op_type: str, *inputs: ir.Value | None, **attributes: int) -> ir.Value:
        """Add a node of a neighbour, or read the one that is there."""
        node = ir.Node("", op_type, inputs, [ir.AttrInt64(key, value) for key, value in attributes.items()])
        if op_type != "DequantizeLinear":
            return self._added(node, self._node.outputs[0].shape)
        there = next((other for other in _readers(node) if other.graph is self._graph and _is_same(other, node)), None)
        if there is None:
            return self._added(node, None if inputs[0] is None else inputs[0].shape)
        _disconnect(node)
        self._names_of(node)
        if there not in self._behind:
            # It stands after the layer, for others; all that it reads is there before the layer.
            self._graph.remove(there)
            self._graph.insert_before(self._node, there)
            self._behind.add(there)
        return there.outputs[0]

    def _added(self, node: ir.Node, shape: ir.Shape | None) -> ir.Value:
        value = node.outputs[0]
        name, value_name = self._names_of(node)
        node.name = fresh_name(name, self._taken.nodes) if name else ""  # None would become some name
        value.name = fresh_name(value_name, self._taken.values)
        # A file that says nothing of y did not say anything of what is before it.
        value.type = None if self._node.outputs[0].type is None else ir.TensorType(ir.DataType.FLOAT)
        value.shape = None if shape is None else shape.copy()
        self._nodes.append(node)
        return value

    def _names_of(self, node: ir.Node) -> tuple[str, str]:
        """Return the names that the next node shall have, and what it writes."""
        name, value_name = self._noted.pop() if self._noted else ("", "")
        return name, value_name or f"{self._node.outputs[0].name}/{node.op_type}"


def _readers(node: ir.Node) -> list[ir.Node]:
    """Return the other nodes that read what a node dequantises."""
    value = node.inputs[0]
    return [] if value is None else [other for other in value.consumers() if other is not node]


def _is_same(node: ir.Node, other: ir.Node) -> bool:
    """Return whether two nodes dequantise the same value in the same way."""
    if (node.domain, node.op_type, *node.inputs) != (other.domain, other.op_type, *other.inputs):
        return False
    if set(node.attributes) - {"axis"}:
        return False
    scale = constant_array(node.inputs[1])
    axes = [each.attributes.get_int("axis", 1) for each in (node, other)]
    return axes[0] == axes[1] or (scale is not None and scale.ndim == 0)


def _disconnect(node: ir.Node) -> None:
    for position in range(len(node.inputs)):
        node.replace_input_with(position, None)
