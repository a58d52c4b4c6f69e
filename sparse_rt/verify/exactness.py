"""Which outputs of a quantised model have one right value, to the bit: those that integers alone lead to.

A layer between DequantizeLinear and QuantizeLinear is a sum of integers, scaled and rounded in one known way, in
onnxruntime as here. So are the float values that DequantizeLinear makes of such bytes. Whatever else computes in floats
(an Add of two activations, an average, an activation function) may round to the other side of a tie.
"""

from collections.abc import Iterable
from typing import Literal

import onnx_ir as ir

from sparse_rt.graph.layers.find import find_layers
from sparse_rt.graph.layers.layer import Layer

__all__ = ["exact_outputs", "is_sum_of_integers"]

#: The same in every engine; or a sum that is, once it has been rounded to bytes.
_Kind = Literal["exact", "sum", None]

#: Only move or pick elements.
_MOVES = frozenset(
    {"Flatten", "Gather", "GlobalMaxPool", "Identity", "MaxPool", "Reshape", "Slice", "Split", "Squeeze", "Transpose"}
    | {"Unsqueeze"}
)
#: Bring numbers closer together; they stay sums.
_CLIPS = frozenset({"Clip", "Relu"})
#: Of those that onnxruntime runs as one operator between DequantizeLinear and QuantizeLinear.
_FUSED = frozenset({"Conv", "Gemm", "MatMul"})
_BYTES_IN_AND_OUT = frozenset({"QLinearConv", "QLinearMatMul", "QGemm"})
_PLAIN = (None, 1.0, 1)


def exact_outputs(model: ir.Model) -> frozenset[str]:
    """Return the names of the outputs that must be the same in two right engines, given the same feeds."""
    layers = {layer.node: layer for layer in find_layers(model)}
    kinds: dict[ir.Value, _Kind] = {}
    for node in model.graph:
        kind = _kind(node, layers.get(node), kinds)
        kinds.update((value, kind) for value in node.outputs)
    return frozenset(str(value.name) for value in model.graph.outputs if _of(value, kinds) == "exact")


def is_sum_of_integers(layer: Layer) -> bool:
    """Return whether onnxruntime runs a layer, where bytes go in and come out, as one operator on bytes.

    Else it computes floats, which are rounded to bytes; or, from 1.20 on, it rounds a bias of floats to integers first.
    """
    attributes = layer.attributes
    if attributes.get("alpha") not in _PLAIN or attributes.get("beta") not in _PLAIN:
        return False
    if layer.form == "qdq":
        return layer.op_type in _FUSED and _is_dequantised(layer.x) and _is_integer_bias(layer.bias)
    if layer.form == "qlinear":
        return layer.op_type in _BYTES_IN_AND_OUT and layer.y_scale is not None
    return layer.form == "integer"


def _of(value: ir.Value | None, kinds: dict[ir.Value, _Kind]) -> _Kind:
    # What no node of the graph writes is a feed or a constant, or nothing at all.
    return "exact" if value is None or value.producer() is None else kinds.get(value)


def _kind(node: ir.Node, layer: Layer | None, kinds: dict[ir.Value, _Kind]) -> _Kind:
    if layer is not None:
        return _kind_of_layer(layer, kinds)
    if node.domain not in ("", "ai.onnx"):
        return None
    first = _of(node.inputs[0], kinds) if node.inputs else "exact"
    if not _are_exact(node.inputs[1:], kinds):
        return None
    if node.op_type == "QuantizeLinear":
        return "exact" if first is not None else None
    if node.op_type in _MOVES or node.op_type in _CLIPS:
        return first
    if node.op_type in ("Constant", "DequantizeLinear"):
        return first if first == "exact" else None
    return None


def _kind_of_layer(layer: Layer, kinds: dict[ir.Value, _Kind]) -> _Kind:
    if _of(layer.x, kinds) != "exact":
        return None
    if not is_sum_of_integers(layer):
        return None
    if layer.form == "qdq":
        return "sum"
    parameters = (layer.x_scale, layer.x_zero_point, layer.y_scale, layer.y_zero_point, layer.bias)
    return "exact" if _are_exact(parameters, kinds) else None


def _are_exact(values: Iterable[ir.Value | None], kinds: dict[ir.Value, _Kind]) -> bool:
    return all(_of(value, kinds) == "exact" for value in values)


def _is_dequantised(value: ir.Value) -> bool:
    node = value.producer()
    return node is not None and node.op_type == "DequantizeLinear"


def _is_integer_bias(bias: ir.Value | None) -> bool:
    return bias is None or _is_dequantised(bias)
