"""Read a node of the domain ``sparse_rt`` from what onnxruntime tells of it."""

from collections.abc import Callable, Mapping
from typing import Any

import onnx_ir as ir

from sparse_rt.graph.operators import ALG, COMPRESSED, FILTER_SHAPE
from sparse_rt.library.node import NodeAttribute, NodeDescription, NodeInput
from sparse_rt.library.onnxruntime_api import Api, ApiError

__all__ = ["attribute_kinds", "described"]


def described(api: Api, info: int, op_type: str) -> NodeDescription:
    """Return the node that `info`, an OrtKernelInfo, is about; `op_type` is its operator.

    Its constants are onnxruntime's own memory, which stays as long as the session.
    """
    constants, inputs = {}, {}
    for index, (name, value) in enumerate(zip(COMPRESSED[op_type].inputs, api.inputs(info), strict=False)):
        if not value:
            continue
        constant = api.constant(info, index)
        if constant is None:
            inputs[name] = NodeInput(*api.input_type(info, index))
        else:
            constants[name] = constant
    return NodeDescription(op_type, api.node_name(info), _attributes(api, info, op_type), constants, inputs)


def attribute_kinds(op_type: str) -> Mapping[str, ir.AttributeType]:
    """Return the attributes that an operator knows."""
    return {
        **COMPRESSED[op_type].dense.attributes,
        ALG: ir.AttributeType.STRING,
        FILTER_SHAPE: ir.AttributeType.TENSOR,
    }


def _attributes(api: Api, info: int, op_type: str) -> Mapping[str, NodeAttribute]:
    """Return the attributes of a node that its operator knows."""
    read: Mapping[ir.AttributeType, Callable[[int, str], Any]] = {
        ir.AttributeType.INT: api.integer,
        ir.AttributeType.INTS: api.integers,
        ir.AttributeType.FLOAT: api.number,
        ir.AttributeType.FLOATS: api.numbers,
        ir.AttributeType.STRING: api.text,
        ir.AttributeType.TENSOR: api.tensor,
    }
    found: dict[str, NodeAttribute] = {}
    for name, kind in attribute_kinds(op_type).items():
        try:
            found[name] = read[kind](info, name)
        except ApiError:  # a node leaves out what has its default; onnxruntime tells so by failing
            continue
    return found
