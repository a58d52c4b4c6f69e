"""Compose models of their own for onnxruntime: some nodes of a model, and perhaps operators of ours between them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort

from sparse_rt.graph.layers.weights import constant_tensor
from sparse_rt.graph.reads import outer_inputs
from sparse_rt.graph.type_names import type_proto
from sparse_rt.plan.signature import NodeArg

__all__ = ["EXTERNAL_FROM", "Island", "Piece", "Skeleton", "compose", "cut", "declaration", "skeleton"]

#: Bytes from which on an initializer is handed to onnxruntime beside the protobuf: one copy instead of four, and
#: protobufs end at 2 GiB.
EXTERNAL_FROM = 1 << 16


@dataclass(frozen=True, eq=False)
class Island:
    """A model of some nodes, and the large initializers that it refers to.

    Attributes
    ----------
    model
        Small enough for one protobuf.
    inputs, outputs
        Names of its inputs and outputs.
    external
        Initializers that :meth:`onnxruntime.SessionOptions.add_external_initializers` must add.
    """

    model: onnx.ModelProto
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    external: Mapping[str, ort.OrtValue]


class Piece(NamedTuple):
    """A node to be, with the values of the model that it reads, captured ones included, and those that it writes."""

    node: onnx.NodeProto
    reads: Sequence[ir.Value]
    writes: Sequence[ir.Value]

    @classmethod
    def of(cls, node: ir.Node) -> "Piece":
        """Return a node of the model as it is."""
        return cls(ir.serde.serialize_node(node), outer_inputs(node), node.outputs)


def cut(
    model: ir.Model,
    nodes: Sequence[ir.Node],
    outputs: Sequence[ir.Value],
    known: Mapping[str, NodeArg],
) -> Island:
    """Return an island of some nodes, in topological order; see :func:`compose`."""
    return compose(model, [Piece.of(node) for node in nodes], outputs, known)


def compose(
    model: ir.Model,
    pieces: Sequence[Piece],
    outputs: Sequence[ir.Value],
    known: Mapping[str, NodeArg],
) -> Island:
    """Return an island.

    Parameters
    ----------
    model
        That the values belong to.
    pieces
        In topological order.
    outputs
        Values that must leave the island, each written by one of the pieces.
    known
        Type and shape of each value that may enter the island.
    """
    found = skeleton(model, pieces, outputs, known)
    external = {name: _ort_value(tensor) for name, tensor in found.large.items()}
    return Island(found.model, found.inputs, tuple(str(value.name) for value in outputs), external)


class Skeleton(NamedTuple):
    """A model of some nodes that refers to its large initializers, its inputs, and these initializers."""

    model: onnx.ModelProto
    inputs: tuple[str, ...]
    large: Mapping[str, ir.TensorProtocol]


def skeleton(
    model: ir.Model, pieces: Sequence[Piece], outputs: Sequence[ir.Value], known: Mapping[str, NodeArg]
) -> Skeleton:
    """Return what :func:`compose` makes an island of; it suffices to ask onnxruntime for types."""
    inside = {value for piece in pieces for value in piece.writes}
    entering = dict.fromkeys(value for piece in pieces for value in piece.reads if value not in inside)
    constants = {value: constant_tensor(value) for value in entering}
    inputs = [value for value, tensor in constants.items() if tensor is None]
    large: dict[str, ir.TensorProtocol] = {}
    graph = onnx.GraphProto(name="island")
    for value, tensor in constants.items():
        if tensor is None:
            continue
        if tensor.nbytes >= EXTERNAL_FROM and tensor.dtype != ir.DataType.STRING:
            graph.initializer.append(_reference(str(value.name), tensor))
            large[str(value.name)] = tensor
        else:
            graph.initializer.append(_embedded(str(value.name), tensor))
    for value in inputs:
        graph.input.append(declaration(str(value.name), known.get(str(value.name)) or NodeArg.of(value)))
    for value in outputs:
        # onnxruntime infers the type, also of operators that the onnx package does not know.
        graph.output.append(onnx.ValueInfoProto(name=str(value.name)))
    graph.node.extend(piece.node for piece in pieces)
    return Skeleton(_model(model, graph), tuple(str(value.name) for value in inputs), large)


def _model(model: ir.Model, graph: onnx.GraphProto) -> onnx.ModelProto:
    """Wrap a graph with the model's opsets, and with those of its functions that are called."""
    return onnx.ModelProto(
        ir_version=model.ir_version,
        graph=graph,
        opset_import=[onnx.helper.make_opsetid(*opset) for opset in model.opset_imports.items()],
        functions=_called(model, graph),
        producer_name="sparse_rt",
    )


def _called(model: ir.Model, graph: onnx.GraphProto) -> list[onnx.FunctionProto]:
    """Return the functions that nodes of a graph call, and those that these call."""
    if not model.functions:
        return []
    found: dict[ir.OperatorIdentifier, onnx.FunctionProto] = {}
    nodes = list(graph.node)
    while nodes:
        node = nodes.pop()
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                nodes.extend(inner.node)
        identifier = (node.domain, node.op_type, node.overload)
        if identifier in model.functions and identifier not in found:
            found[identifier] = ir.serde.serialize_function(model.functions[identifier])
            nodes.extend(found[identifier].node)
    return [found[identifier] for identifier in model.functions if identifier in found]


def declaration(name: str, item: NodeArg) -> onnx.ValueInfoProto:
    """Return a value by that name, of the type and shape of `item`."""
    # Symbolic names stay: they tell onnxruntime which sizes are equal.
    declared = type_proto(item.type, item.shape if item.has_rank else None)
    return onnx.ValueInfoProto(name=name, type=declared)


def _embedded(name: str, tensor: ir.TensorProtocol) -> onnx.TensorProto:
    if tensor.dtype == ir.DataType.STRING:
        proto = ir.serde.serialize_tensor(tensor)
        proto.name = name
        return proto
    return onnx.TensorProto(
        name=name, data_type=int(tensor.dtype), dims=tensor.shape.numpy(), raw_data=tensor.tobytes()
    )


def _reference(name: str, tensor: ir.TensorProtocol) -> onnx.TensorProto:
    proto = onnx.TensorProto(
        name=name,
        data_type=int(tensor.dtype),
        dims=tensor.shape.numpy(),
        data_location=onnx.TensorProto.EXTERNAL,
    )
    proto.external_data.add(key="location", value="sparse_rt")
    proto.external_data.add(key="offset", value="0")
    proto.external_data.add(key="length", value=str(tensor.nbytes))
    return proto


def _ort_value(tensor: ir.TensorProtocol) -> ort.OrtValue:
    array: np.ndarray[Any, Any] = np.require(tensor.numpy(), requirements=("C", "A"))
    if array.dtype.kind == "V" or array.dtype.name not in np.sctypeDict:
        unsigned = np.dtype(f"u{array.dtype.itemsize}")
        return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(array.view(unsigned), int(tensor.dtype))
    return ort.OrtValue.ortvalue_from_numpy(array)
