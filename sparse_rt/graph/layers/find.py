"""Find the layers of a model, dense or compressed, and bring them to one normal form."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx_ir as ir

from sparse_rt.errors import ModelError, message
from sparse_rt.graph.dense_forms import FORMS, MICROSOFT, DenseForm
from sparse_rt.graph.layers import gates
from sparse_rt.graph.layers.attributes import resolve
from sparse_rt.graph.layers.dense_weight import DenseWeight
from sparse_rt.graph.layers.layer import AttributeValue, Kind, Layer
from sparse_rt.graph.layers.ranks import find_ranks
from sparse_rt.graph.layers.stored import canonical_shape, stored_weight
from sparse_rt.graph.layers.weights import ConstantWeight, constant_array, trace
from sparse_rt.graph.neighbours.record import ALONE
from sparse_rt.graph.operators import COMPRESSED, DOMAIN, VERSION

__all__ = ["ELSEWHERE", "Match", "find_layers", "is_layer", "match"]

_INSIDE_SUBGRAPH = "inside a subgraph"
_INSIDE_FUNCTION = "inside a local function of the model"
_NO_WEIGHT_DTYPE: np.dtype[Any] = np.dtype(np.float32)
_BY_OPERATOR: dict[tuple[str, str], tuple[DenseForm, ...]] = {}
for _form in FORMS:
    _BY_OPERATOR[_form.domain, _form.op_type] = (*_BY_OPERATOR.get((_form.domain, _form.op_type), ()), _form)

Match = tuple[DenseForm, ConstantWeight | None]

_SAVE_AGAIN = "let onnxruntime save the model at level EXTENDED, not ALL"
ELSEWHERE: Mapping[tuple[str, str], str] = MappingProxyType(
    {
        (MICROSOFT, "Attention"): "its three projections are one operator with the attention between them",
        (MICROSOFT, "QAttention"): "its three projections are one operator with the attention between them",
        (MICROSOFT, "GemmFastGelu"): "onnxruntime runs this operator on GPUs only",
        (MICROSOFT, "NhwcFusedConv"): f"its activations lie channels last; {_SAVE_AGAIN}",
        (MICROSOFT, "QLinearConv"): f"its activations may lie channels last; {_SAVE_AGAIN}",
        (MICROSOFT, "MatMulNBits"): "its weight is quantised in blocks",
        (f"{MICROSOFT}.nchwc", "Conv"): f"its weight and activations are blocked for one CPU; {_SAVE_AGAIN}",
    }
)
"""Operators of onnxruntime's own that hold a weight and run there, each with the reason."""


def find_layers(model: ir.Model) -> list[Layer]:
    """Return every layer of the model, in order of its nodes.

    Those inside subgraphs and inside the model's own local functions follow, with that as reason.

    A layer is every Conv, ConvTranspose, MatMul, Gemm, QLinearConv, QLinearMatMul, ConvInteger, MatMulInteger and
    com.microsoft QGemm, FusedMatMul, FusedGemm, FusedConv, MatMulIntegerToFloat, DynamicQuantizeMatMul, whether or not
    its weight is constant, and every node of the ``sparse_rt`` domain; also, with that as reason, the operators with a
    weight that no sparse layer stands for, :data:`ELSEWHERE`.

    The weights of layers that could qualify are read once, to check the pattern; large ones are not kept.

    Raises
    ------
    ModelError
        A node of the ``sparse_rt`` domain is unknown, or lacks what it needs; an attribute or a bias does not fit.
    FormatError
        A compressed weight is corrupt.
    """
    weights = _Weights()
    layers = [_layer(node, weights) for node in model.graph if is_layer(node)]
    if layers:
        ranks = find_ranks(model.graph, layers)
        layers = [replace(layer, rank=ranks.get(layer.y)) for layer in layers]
    for graph in model.graph.subgraphs():
        layers += [_layer(node, weights, _INSIDE_SUBGRAPH) for node in graph if is_layer(node)]
    for function in model.functions.values():
        if function.domain != DOMAIN:
            inner = [node for node in function.all_nodes() if is_layer(node)]
            layers += [_layer(node, weights, _INSIDE_FUNCTION) for node in inner]
    return layers


def is_layer(node: ir.Node) -> bool:
    """Return whether an operator is one of those that :func:`find_layers` looks at."""
    operator = (node.domain, node.op_type)
    return node.domain == DOMAIN or operator in _BY_OPERATOR or operator in ELSEWHERE


def match(node: ir.Node) -> Match:
    """Return the form of a dense layer's node and its constant operand, the right one where both are constant.

    Where neither is constant, or what dequantises it does not belong to the form, the weight is None.
    """
    trans_b = bool(node.attributes.get_int("transB", 0))
    candidates = [
        form
        for form in _BY_OPERATOR[node.domain, node.op_type]
        if "transB" not in form.attributes or form.input_first != trans_b
    ]
    for form in candidates:
        weight = trace(_at(node, form.weight_index))
        if weight is not None and _fits(form, weight):
            return form, weight
    return candidates[0], None


def _fits(form: DenseForm, weight: ConstantWeight) -> bool:
    half = form.form == "float" and weight.tensor.dtype == ir.DataType.FLOAT16
    return (weight.dequantize is not None) == (form.form == "qdq") and half == form.half


def _at(node: ir.Node, index: int) -> ir.Value | None:
    return node.inputs[index] if index < len(node.inputs) else None


class _Weights:
    """The dense weights of a model's layers, one object for those that read a tensor in the same way."""

    def __init__(self) -> None:
        self._found: dict[tuple[int, tuple[int, ...], bool], DenseWeight] = {}

    def of(self, form: DenseForm, weight: ConstantWeight) -> DenseWeight:
        # What is found holds its tensor, so that no other one can have the same id.
        key = (id(weight.tensor), weight.perm, form.input_first)
        found = self._found.get(key)
        if found is None:
            found = self._found[key] = DenseWeight(_loader(form, weight))
        else:
            found.readers += 1
        return found


def _layer(node: ir.Node, weights: _Weights, reason: str | None = None) -> Layer:
    if node.domain == DOMAIN:
        return _compressed_layer(node, reason)
    elsewhere = ELSEWHERE.get((node.domain, node.op_type))
    if elsewhere is not None:
        return _layer_elsewhere(node, f"{node.domain} {node.op_type} runs in onnxruntime: {elsewhere}")
    return _dense_layer(node, weights, reason)


def _layer_elsewhere(node: ir.Node, reason: str) -> Layer:
    kind: Kind = "conv" if node.op_type.endswith("Conv") else "matmul"
    form = DenseForm("", "", node.domain, node.op_type, kind, "float", "right", True, ("x",), {}, 1)
    return _without_weight(node, form, _named(form.inputs, node.inputs), {}, reason)


def _dense_layer(node: ir.Node, weights: _Weights, reason: str | None) -> Layer:
    form, weight = match(node)
    inputs = _named(form.inputs, node.inputs)
    if weight is None:
        attributes = resolve(form, node, ())
        reason = reason or gates.structural_reason(form, None, (), attributes)
        return _without_weight(node, form, inputs, attributes, reason)

    if weight.dequantize is not None:
        inputs |= _named(("filter", "filter_scale", "filter_zero_point"), weight.dequantize.inputs)
    shape = canonical_shape(form, weight.shape)
    attributes = resolve(form, node, shape)
    _check_bias(node, form, inputs.get("bias"), shape)
    scale = _per_channel(inputs.get("filter_scale"))
    zero_point = _per_channel(inputs.get("filter_zero_point"))
    reason = (
        reason
        or gates.structural_reason(form, weight, shape, attributes)
        or gates.quantisation_reason(
            form, weight, shape[0], scale, zero_point, zero_point_given="filter_zero_point" in inputs
        )
    )
    dense = weights.of(form, weight)
    return replace(
        _without_weight(node, form, inputs, attributes, reason or dense.reason()),
        shape=shape,
        dtype=weight.tensor.dtype.numpy(),
        weight_scale=scale,
        weight_zero_point=zero_point,
        eligible=reason is None,
        weight=dense,
    )


def _compressed_layer(node: ir.Node, reason: str | None) -> Layer:
    where = f"layer '{_name(node)}'"
    form = COMPRESSED.get(node.op_type)
    if form is None or node.overload or form.neighbours != ALONE:
        raise ModelError(message(where, f"an operator of the domain {DOMAIN}, version {VERSION}", f"'{node.op_type}'"))
    inputs = _named(form.inputs, node.inputs)
    weight = stored_weight(node, form, inputs, where)
    dense = form.dense
    attributes = resolve(dense, node, weight.shape)
    _check_bias(node, dense, inputs.get("bias"), weight.shape)
    scale = _per_channel(inputs.get("filter_scale"))
    zero_point = _per_channel(inputs.get("filter_zero_point"))
    reason = (
        reason
        or gates.attribute_reason(attributes)
        or gates.parameter_reason(
            dense, weight.shape[0], scale, zero_point, zero_point_given="filter_zero_point" in inputs
        )
    )
    return replace(
        _without_weight(node, dense, inputs, attributes, reason),
        shape=weight.shape,
        dtype=weight.dtype,
        weight_scale=scale,
        weight_zero_point=zero_point,
        eligible=reason is None,
        stored=weight,
    )


def _check_bias(node: ir.Node, form: DenseForm, bias: ir.Value | None, shape: tuple[int, ...]) -> None:
    """Raise if the constant bias of a convolution does not fit; not every onnxruntime looks before it reads."""
    if form.kind == "matmul" or node.attributes.get_int("group", 1) != 1:
        return
    constant = trace(bias)
    if constant is not None and constant.shape != (shape[0],):
        expected = f"a bias of {shape[0]} values"
        raise ModelError(message(f"layer '{_name(node)}'", expected, f"shape {constant.shape}"))


def _named(names: Sequence[str], values: Sequence[ir.Value | None]) -> dict[str, ir.Value]:
    """Return the given inputs by name, without the absent ones."""
    return {name: value for name, value in zip(names, values, strict=False) if value is not None}


def _per_channel(value: ir.Value | None) -> np.ndarray[Any, Any] | None:
    """Return a constant scale or zero point; one for the whole tensor comes as a scalar."""
    array = constant_array(value)
    return array.reshape(()) if array is not None and array.size == 1 else array


def _loader(form: DenseForm, weight: ConstantWeight) -> Callable[[], np.ndarray[Any, Any]]:
    def load() -> np.ndarray[Any, Any]:
        array = weight.array()
        return array.swapaxes(0, 1) if form.input_first and array.ndim >= 2 else array

    return load


def _name(node: ir.Node) -> str:
    return node.name or node.outputs[0].name or node.op_type


def _without_weight(
    node: ir.Node,
    form: DenseForm,
    inputs: Mapping[str, ir.Value],
    attributes: Mapping[str, AttributeValue],
    reason: str | None,
) -> Layer:
    """Return the layer as it is without a constant weight: neither dense nor stored, and not eligible."""
    if "x" not in inputs:
        raise ModelError(message(f"layer '{_name(node)}'", "an activation as input x", "none"))
    return Layer(
        name=_name(node),
        node=node,
        op_type=form.op_type,
        kind=form.kind,
        form=form.form,
        constant_side=form.side,
        x=inputs["x"],
        y=node.outputs[0],
        bias=inputs.get("bias"),
        shape=(),
        dtype=_NO_WEIGHT_DTYPE,
        weight_scale=None,
        weight_zero_point=None,
        x_scale=inputs.get("x_scale"),
        x_zero_point=inputs.get("x_zero_point"),
        y_scale=inputs.get("y_scale"),
        y_zero_point=inputs.get("y_zero_point"),
        attributes=attributes,
        reason=reason,
        eligible=False,
    )
