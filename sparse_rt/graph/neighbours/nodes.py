"""The nodes that neighbours are: in the body of a function, and in a graph that a file is read into."""

from collections.abc import Callable, Mapping
from typing import Any

import onnx_ir as ir

from sparse_rt.graph.neighbours.record import Neighbours

__all__ = ["BIAS_AXIS", "Add", "after_operator", "before_operator", "dequantize_axis"]

BIAS_AXIS = 0
_FIRST_WITH_AXIS = 13


Add = Callable[..., ir.Value]
"""What adds a standard operator, of that type and with these inputs and attributes, and returns its output."""


def dequantize_axis(opset: int, axis: int) -> dict[str, Any]:
    """Return the attributes of DequantizeLinear for scales along `axis`; before opset 13 it had neither of both."""
    return {"axis": axis} if opset >= _FIRST_WITH_AXIS else {}


def before_operator(
    add: Add, neighbours: Neighbours, inputs: Mapping[str, ir.Value], opset: int
) -> dict[str, ir.Value]:
    """Add the nodes before the dense operator; return what it reads of them, by the operand's name."""
    found = {}
    if neighbours.x:
        found["x"] = add("DequantizeLinear", *(inputs[name] for name in ("x", "x_scale", "x_zero_point")))
    if neighbours.bias:
        operands = (inputs[name] for name in ("bias", "bias_scale", "bias_zero_point"))
        found["bias"] = add("DequantizeLinear", *operands, **dequantize_axis(opset, BIAS_AXIS))
    return found


def after_operator(add: Add, neighbours: Neighbours, inputs: Mapping[str, ir.Value], y: ir.Value) -> ir.Value:
    """Add the nodes after the dense operator, which gives `y`; return what the last one gives."""
    if neighbours.addition:
        other = inputs["residual" if "residual" in neighbours.addition else "bias"]
        y = add("Add", y, other) if neighbours.addition.startswith("plus") else add("Add", other, y)
    if neighbours.activation == "relu":
        y = add("Relu", y)
    elif neighbours.activation == "clip":
        y = add("Clip", y, inputs["low"], inputs["high"])
    if neighbours.y:
        y = add("QuantizeLinear", y, inputs["y_scale"], inputs["y_zero_point"])
    return y
