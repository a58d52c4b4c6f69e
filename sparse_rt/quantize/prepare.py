"""Bring a float model to the form in which onnxruntime's quantiser treats it right, or refuse it."""

import onnx
import onnx_ir as ir

from sparse_rt.errors import ModelError, message
from sparse_rt.graph import model_io
from sparse_rt.graph.layers.weights import constant_array
from sparse_rt.graph.names import fresh_name, value_names
from sparse_rt.graph.operators import DOMAIN

__all__ = ["MIN_OPSET", "prepare"]

MIN_OPSET = 13
"""The first opset whose DequantizeLinear takes one scale a channel."""

_QUANTISED = frozenset(
    {
        *("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger"),
        *("MatMulIntegerToFloat", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM", "MatMulNBits", "MatMulBnb4"),
        *("GatherBlockQuantized", "QAttention", "QGemm", "QEmbedLayerNormalization"),
    }
)


def prepare(model: ir.Model, where: str) -> tuple[ir.Model, tuple[str, ...]]:
    """Return a float model that the quantiser treats right, and the names of nodes that it must leave alone.

    The factors alpha and beta of a Gemm go into its constants, because the quantiser takes no notice of them (checked
    with onnxruntime 1.32); a Gemm whose operand with a factor is not constant stays in float.

    Parameters
    ----------
    model
        Not changed.
    where
        What to call it in messages.

    Raises
    ------
    ModelError
        The model is quantised or compressed already, or its opset is below 13 and cannot be converted.
    """
    for graph in (*model.graphs(), *model.functions.values()):
        for node in graph:
            _refuse(node, where)
    opset = model.opset_imports.get("", 0)
    model = model.clone() if opset >= MIN_OPSET else _converted(model, opset, where)
    return model, tuple(_fold_factors(model))


def _refuse(node: ir.Node, where: str) -> None:
    if node.domain == DOMAIN:
        got, remedy = f"a compressed layer ('{node.name}')", "Quantise first, then compress."
    elif node.op_type in _QUANTISED or node.op_type.startswith("QLinear"):
        got, remedy = f"{node.op_type} ('{node.name}'), which is quantised", "It can be compressed as it is."
    else:
        return
    raise ModelError(message(where, "a float model", got, remedy))


def _converted(model: ir.Model, opset: int, where: str) -> ir.Model:
    """Return the model in the first opset that will do."""
    try:
        converted = onnx.version_converter.convert_version(model_io.to_proto(model), MIN_OPSET)
        return model_io.read(converted)
    except Exception as error:  # the converter raises whatever its adapters raise
        fact = " ".join(str(error).split()) or type(error).__name__
        expected = f"opset {MIN_OPSET} or later, or a model that onnx's version converter brings there"
        remedy = "Export the model with a later opset."
        raise ModelError(message(where, expected, f"opset {opset} ({fact})", remedy)) from error


def _fold_factors(model: ir.Model) -> list[str]:
    """Fold the factors of every Gemm into its constants; return the names of those where that is impossible."""
    names = value_names(model)
    left = []
    for node in model.graph:
        if node.op_type != "Gemm" or node.domain:
            continue
        for attribute, position in (("alpha", 1), ("beta", 2)):
            factor = node.attributes.get_float(attribute, 1.0)
            operand = node.inputs[position] if position < len(node.inputs) else None
            if factor == 1 or operand is None:
                continue
            constant = constant_array(operand)
            if constant is None:
                node.name = node.name or fresh_name(f"Gemm.{node.outputs[0].name}", names)
                left.append(node.name)
                break
            name = fresh_name(f"{operand.name}.scaled", names)
            tensor = ir.tensor((constant * constant.dtype.type(factor)).astype(constant.dtype), name=name)
            value = ir.Value(
                name=name, const_value=tensor, shape=ir.Shape(constant.shape), type=ir.TensorType(tensor.dtype)
            )
            model.graph.register_initializer(value)
            node.replace_input_with(position, value)
            del node.attributes[attribute]
    return left
