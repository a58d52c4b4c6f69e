"""A node of a file as a model of its own, in which its layer is found as in any other."""

from typing import Final

import numpy as np
import onnx_ir as ir

from sparse_rt.errors import ModelError, message
from sparse_rt.graph.neighbours.restore import restore
from sparse_rt.graph.operators import ALG, COMPRESSED, DOMAIN, FILTER_SHAPE, IR_VERSION, VERSION
from sparse_rt.library.node import NodeDescription

__all__ = ["OUTPUT", "model_of"]

#: Name of what the node writes.
OUTPUT: Final = "y"
#: onnxruntime does not tell the file's. The operators that compressed ones stand for mean the same in all since 11;
#: per-channel scales came with 13.
_OPSET: Final = 17


def model_of(node: NodeDescription) -> ir.Model:
    """Return a model of that node alone; its inputs and output have the names of the operator's, and :data:`OUTPUT`.

    The neighbours that the operator holds are nodes of their own.

    Constants are the very arrays of `node`.

    Raises
    ------
    ModelError
        There is no such operator.
    """
    form = COMPRESSED.get(node.op_type)
    if form is None:
        expected = f"an operator of the domain {DOMAIN}, version {VERSION}"
        raise ModelError(message(f"layer '{node.name}'", expected, f"'{node.op_type}'"))
    values = {name: _input(node, name) for name in form.inputs if name in node.constants or name in node.inputs}
    operands = [values.get(name) for name in form.inputs]
    while operands and operands[-1] is None:
        operands.pop()
    kinds = {ALG: ir.AttributeType.STRING, FILTER_SHAPE: ir.AttributeType.TENSOR, **form.dense.attributes}
    attributes = [_attribute(name, kind, node) for name, kind in kinds.items() if name in node.attributes]
    made = ir.Node(DOMAIN, node.op_type, operands, attributes, name=node.name or node.op_type)
    made.outputs[0].name = OUTPUT
    inputs = [values[name] for name in form.inputs if name in node.inputs]
    initializers = [values[name] for name in form.inputs if name in node.constants]
    opsets = {"": _OPSET, DOMAIN: VERSION, "com.microsoft": 1}
    graph = ir.Graph(inputs, made.outputs, nodes=[made], initializers=initializers, opset_imports=opsets, name="graph")
    model = ir.Model(graph, ir_version=IR_VERSION)
    restore(model)
    return model


def _input(node: NodeDescription, name: str) -> ir.Value:
    constant = node.constants.get(name)
    if constant is not None:
        tensor = ir.tensor(constant, name=name)
        kind = ir.TensorType(tensor.dtype)
        return ir.Value(name=name, const_value=tensor, shape=ir.Shape(constant.shape), type=kind)
    found = node.inputs[name]
    shape = None if found.shape is None else ir.Shape(found.shape)
    return ir.Value(name=name, shape=shape, type=ir.TensorType(ir.DataType.from_numpy(found.dtype)))


def _attribute(name: str, kind: ir.AttributeType, node: NodeDescription) -> ir.Attr:
    value = node.attributes[name]
    return ir.Attr(name, kind, ir.tensor(value) if isinstance(value, np.ndarray) else value)
