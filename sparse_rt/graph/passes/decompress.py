"""The way back: replace the operators of the ``sparse_rt`` domain by the dense ones that they stand for."""

import functools
import math
from collections.abc import Iterable

import numpy as np
import onnx_ir as ir

from sparse_rt.formats import SparseWeight
from sparse_rt.graph.layers.find import find_layers
from sparse_rt.graph.layers.layer import Layer
from sparse_rt.graph.names import Names, fresh_name, value_names
from sparse_rt.graph.neighbours.restore import restore
from sparse_rt.graph.operators import ALG, COMPRESSED, DOMAIN, FILTER_SHAPE, VERSION_KEY, CompressedForm

__all__ = ["decompress_model", "decompressed_nbytes"]


def decompressed_nbytes(model: ir.Model) -> int:
    """Return the bytes that the compressed weights of a model take when they are dense."""
    stored = (layer.stored for layer in find_layers(model))
    return sum(math.prod(weight.shape) * weight.dtype.itemsize for weight in stored if weight is not None)


def decompress_model(model: ir.Model) -> ir.Model:
    """Return the model with every compressed layer dense, as it was before it was compressed.

    Each dense weight is decoded when it is read, and not kept: the model can be written with external data in little
    memory. Names of nodes and of the values between them stay. Layers inside functions stay as they are.

    Parameters
    ----------
    model
        Not changed.

    Raises
    ------
    ModelError, FormatError
        A compressed layer is corrupt.
    """
    result = model.clone()
    restore(result)
    names = value_names(result)
    compressed: dict[ir.Value, None] = {}
    dense: dict[tuple[ir.Value | None, bool], ir.Value] = {}
    for layer in find_layers(result):
        graph = layer.node.graph
        if layer.stored is None or not isinstance(graph, ir.Graph):
            continue
        form = COMPRESSED[layer.node.op_type]
        key = (layer.node.inputs[1], form.dense.input_first)
        if key not in dense:
            name = fresh_name(f"{layer.name}.filter", names)
            dense[key] = _initializer(graph, layer.stored, form.dense.input_first, name)
        tensors = layer.node.inputs[1 : 1 + len(form.format.tensors)]
        compressed |= dict.fromkeys(value for value in tensors if value is not None)
        _replace(layer, form, dense[key], names)
    _remove_unused(result, compressed)
    return result


def _initializer(graph: ir.Graph, stored: SparseWeight, input_first: bool, name: str) -> ir.Value:
    shape = (stored.shape[1], stored.shape[0], *stored.shape[2:]) if input_first else stored.shape
    tensor = ir.LazyTensor(
        functools.partial(_decoded, stored, input_first, name),
        dtype=ir.DataType.from_numpy(stored.dtype),
        shape=ir.Shape(shape),
        name=name,
    )
    value = ir.Value(name=name, const_value=tensor, shape=ir.Shape(shape), type=ir.TensorType(tensor.dtype))
    graph.register_initializer(value)
    return value


def _decoded(stored: SparseWeight, input_first: bool, name: str) -> ir.TensorProtocol:
    weight = stored.decode(f"weight '{name}'")
    return ir.tensor(np.ascontiguousarray(weight.swapaxes(0, 1) if input_first else weight), name=name)


def _replace(layer: Layer, form: CompressedForm, weight: ir.Value, names: Names) -> None:
    """Turn the compressed node into its dense form in place."""
    node, dense = layer.node, form.dense
    named: dict[str, ir.Value | None] = dict(zip(form.inputs, node.inputs, strict=False))
    named["filter"] = weight
    if dense.form == "qdq":
        parameters = [named.get(name) for name in dense.dequantize_inputs]
        per_channel = layer.weight_scale is not None and layer.weight_scale.ndim == 1
        attributes = [ir.AttrInt64("axis", dense.channel_axis)] if per_channel else []
        dequantize = ir.Node("", "DequantizeLinear", [weight, *parameters], attributes=attributes)
        dequantize.name = dequantize.outputs[0].name = fresh_name(f"{layer.name}.filter_dequantized", names)
        node.prepend(dequantize)
        named["filter"] = dequantize.outputs[0]
    inputs = [named.get(name) for name in dense.inputs]
    while inputs[-1] is None:
        inputs.pop()
    node.resize_inputs(len(inputs))
    for position, value in enumerate(inputs):
        node.replace_input_with(position, value)
    node.domain, node.op_type, node.overload = dense.domain, dense.op_type, ""
    for name in (ALG, FILTER_SHAPE):
        node.attributes.pop(name, None)


def _remove_unused(model: ir.Model, compressed: Iterable[ir.Value]) -> None:
    """Remove the compressed weights and the functions of the domain, where nobody reads and calls them."""
    for value in compressed:
        if value.graph is not None and not value.uses() and not value.is_graph_output():
            value.graph.initializers.pop(str(value.name), None)
    if not any(node.domain == DOMAIN for graph in model.graphs() for node in graph):
        for identifier in [key for key, function in model.functions.items() if function.domain == DOMAIN]:
            del model.functions[identifier]
        model.opset_imports.pop(DOMAIN, None)
        model.metadata_props.pop(VERSION_KEY, None)
