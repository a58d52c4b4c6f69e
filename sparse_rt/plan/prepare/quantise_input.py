"""DynamicQuantizeMatMul as the two operators that it is: a quantisation of x, and a product of integers."""

from dataclasses import replace

import onnx_ir as ir

from sparse_rt.graph.layers.layer import Layer

__all__ = ["quantise_input"]

_FIRST_OPSET = 11  # DynamicQuantizeLinear


def quantise_input(layer: Layer) -> Layer:
    """Return a layer of ``dynamic`` form in ``qlinear`` form, behind a DynamicQuantizeLinear that the graph now has.

    The layer's own node stays as it is, for onnxruntime, should no kernel fit; the new node is then dead. Layers that
    read the same x share it.

    Parameters
    ----------
    layer
        Returned as it is where the model's opset has no DynamicQuantizeLinear.
    """
    graph = layer.node.graph
    if graph is None or graph.opset_imports.get("", 0) < _FIRST_OPSET:
        return layer
    outputs = _existing(layer.x, graph) or _new(layer.x, graph)
    return replace(layer, form="qlinear", x=outputs[0], x_scale=outputs[1], x_zero_point=outputs[2])


def _names(x: ir.Value) -> list[str]:
    return [f"{x.name}/sparse_rt/{part}" for part in ("quantised", "scale", "zero_point")]


def _existing(x: ir.Value, graph: ir.Graph | ir.Function) -> tuple[ir.Value, ...] | None:
    """Return what an earlier call made; a node of the model's own might stand behind the layer."""
    for node in x.consumers():
        if node.op_type == "DynamicQuantizeLinear" and [value.name for value in node.outputs] == _names(x):
            return tuple(node.outputs) if node.graph is graph else None
    return None


def _new(x: ir.Value, graph: ir.Graph | ir.Function) -> tuple[ir.Value, ...]:
    """Quantise x as early as it exists, so that every reader stands behind."""
    node = ir.Node("", "DynamicQuantizeLinear", [x], num_outputs=3, name=f"{x.name}/sparse_rt/quantise")
    for value, name in zip(node.outputs, _names(x), strict=True):
        value.name = name
    producer = x.producer()
    if producer is not None and producer.graph is graph:
        producer.append(node)
    else:
        graph.insert_before(graph[0], node)
    return tuple(node.outputs)
