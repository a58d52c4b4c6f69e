"""The attributes of a dense operator with their defaults filled in."""

from collections.abc import Mapping
from types import MappingProxyType

import onnx_ir as ir

from sparse_rt.graph.layer import AttributeValue
from sparse_rt.graph.operators import DenseForm

__all__ = ["resolve"]


def resolve(form: DenseForm, node: ir.Node, shape: tuple[int, ...]) -> Mapping[str, AttributeValue]:
    """Return the dense operator's attributes, also for a compressed node, which carries the same.

    Parameters
    ----------
    form
        What `node` computes.
    node
        Dense or compressed.
    shape
        Of the weight, kernel axes from the third on; shorter when the weight is not constant.
    """
    defaults = _matmul_defaults(form) if form.kind == "matmul" else _conv_defaults(form, shape[2:])
    values: dict[str, AttributeValue] = {}
    for name, default in defaults.items():
        attribute = node.attributes.get(name)
        values[name] = default if attribute is None else _plain(attribute)
    return MappingProxyType(values)


def _plain(attribute: ir.Attr) -> AttributeValue:
    if attribute.type == ir.AttributeType.INTS:
        return tuple(attribute.as_ints())
    if attribute.type == ir.AttributeType.INT:
        return attribute.as_int()
    if attribute.type == ir.AttributeType.FLOAT:
        return attribute.as_float()
    return attribute.as_string()


def _matmul_defaults(form: DenseForm) -> dict[str, AttributeValue]:
    """MatMul has no attributes; Gemm's and QGemm's defaults."""
    return {name: (0 if kind == ir.AttributeType.INT else 1.0) for name, kind in form.attributes.items()}


def _conv_defaults(form: DenseForm, kernel: tuple[int, ...]) -> dict[str, AttributeValue]:
    ones, zeros = (1,) * len(kernel), (0,) * len(kernel)
    defaults: dict[str, AttributeValue] = {
        "auto_pad": "NOTSET",
        "dilations": ones,
        "group": 1,
        "kernel_shape": kernel,
        "pads": zeros + zeros,
        "strides": ones,
    }
    if form.kind == "conv_transpose":
        defaults |= {"output_padding": zeros, "output_shape": None}
    return defaults
