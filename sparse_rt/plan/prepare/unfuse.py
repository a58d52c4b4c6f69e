"""Take apart onnxruntime's own operators with an activation inside: FusedConv and FusedGemm.

onnxruntime writes them when it saves an optimised model. Taken apart, the layer and its activation are what every other
model has; and onnxruntime fuses again what stays with it.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from sparse_rt.graph.dense_forms import MICROSOFT
from sparse_rt.graph.names import Names, fresh_name, value_names

__all__ = ["unfuse"]

_OPERATORS = {"FusedConv": "Conv", "FusedGemm": "Gemm"}
_FUSED_ATTRIBUTES = ("activation", "activation_params", "activation_alpha", "activation_beta", "activation_gamma")
_PARAMETERS: Mapping[str, Sequence[str]] = {
    "Relu": (),
    "Sigmoid": (),
    "Tanh": (),
    "Softplus": (),
    "Softsign": (),
    "LeakyRelu": ("alpha",),
    "Elu": ("alpha",),
    "ThresholdedRelu": ("alpha",),
    "HardSigmoid": ("alpha", "beta"),
    "Clip": ("min", "max"),
}
"""The numbers of each activation, in the order of FusedConv's ``activation_params``."""
_CLIP_BY_INPUTS = 11


def unfuse(model: ir.Model) -> None:
    """Replace FusedConv and FusedGemm in the main graph by standard operators of the same names.

    Those whose activation has no standard operator here stay.
    """
    names: Names | None = None
    for node in list(model.graph):
        if node.domain != MICROSOFT or node.op_type not in _OPERATORS:
            continue
        parameters = _activation_parameters(node)
        if parameters is None:
            continue
        names = value_names(model) if names is None else names
        _take_apart(model.graph, node, parameters, names)


def _activation_parameters(node: ir.Node) -> list[float] | None:
    """Return the activation's numbers; None where they are not what a standard operator takes."""
    if len(node.inputs) < 2 or None in node.inputs[:2]:
        return None
    try:
        activation = _name(node)
        expected = _PARAMETERS.get(activation, ()) if activation else ()
        if activation and activation not in _PARAMETERS:
            return None
        if node.op_type == "FusedConv":
            given: Sequence[float | None] = node.attributes.get_floats("activation_params", ())
        else:
            given = [node.attributes.get_float(f"activation_{name}", None) for name in expected]
    except TypeError:  # an attribute of another type: whoever reads the layer says so
        return None
    found = [value for value in given if value is not None]
    return found if len(found) == len(expected) else None


def _name(node: ir.Node) -> str:
    return str(node.attributes.get_string("activation", ""))


def _take_apart(graph: ir.Graph, node: ir.Node, parameters: list[float], names: Names) -> None:
    activation = _name(node)
    addend = node.inputs[3] if len(node.inputs) > 3 else None
    inputs = list(node.inputs[:3])
    while inputs[-1] is None:
        inputs.pop()
    attributes = [value for name, value in node.attributes.items() if name not in _FUSED_ATTRIBUTES]
    nodes = [ir.Node("", _OPERATORS[node.op_type], inputs, attributes=attributes, name=node.name)]
    if addend is not None:
        nodes.append(ir.Node("", "Add", [nodes[-1].outputs[0], addend], name=f"{node.name}/add"))
    if activation:
        nodes.append(_activation(graph, activation, parameters, nodes[-1].outputs[0], node, names))
    y = node.outputs[0]
    for step in nodes[:-1]:
        step.outputs[0].name = fresh_name(f"{y.name}/{step.op_type}", names)
    last = nodes[-1].outputs[0]
    last.name, last.type, last.shape = y.name, y.type, y.shape
    ir.convenience.replace_nodes_and_values(graph, node, [node], nodes, [y], [last])


def _activation(
    graph: ir.Graph, activation: str, parameters: list[float], x: ir.Value, node: ir.Node, names: Names
) -> ir.Node:
    name = f"{node.name}/{activation}"
    if activation == "Clip" and graph.opset_imports.get("", 0) >= _CLIP_BY_INPUTS:
        bounds = [_scalar(graph, number, fresh_name(f"{name}/bound", names)) for number in parameters]
        return ir.Node("", activation, [x, *bounds], name=name)
    attributes = [ir.AttrFloat32(key, number) for key, number in zip(_PARAMETERS[activation], parameters, strict=True)]
    return ir.Node("", activation, [x], attributes=attributes, name=name)


def _scalar(graph: ir.Graph, number: float, name: str) -> ir.Value:
    tensor = ir.tensor(np.float32(number), name=name)
    value = ir.Value(name=name, const_value=tensor, shape=ir.Shape([]), type=ir.TensorType(tensor.dtype))
    graph.register_initializer(value)
    return value
