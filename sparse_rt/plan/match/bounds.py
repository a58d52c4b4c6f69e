"""Bounds that clip values: Relu, Clip, Max and Min."""

import numpy as np
import onnx_ir as ir

from sparse_rt.graph.layers.weights import constant_array
from sparse_rt.plan.match.constants import scalar

__all__ = ["clip_bounds", "clip_twice", "one_bound"]


def clip_twice(first: tuple[float, float], then: tuple[float, float]) -> tuple[float, float]:
    """Return the one interval that clipping to two intervals, one after the other, comes to."""
    low, high = then
    return min(max(first[0], low), high), min(max(first[1], low), high)


def clip_bounds(node: ir.Node) -> tuple[float, float] | None:
    """Return the constant bounds of a Relu or Clip of any opset; None for all else, and for bounds in no order."""
    if node.domain != "" or node.op_type not in ("Relu", "Clip"):
        return None
    if node.op_type == "Relu":
        return 0.0, np.inf
    # A bound that is not given is the largest finite number: infinities are clipped to that.
    most = float(np.finfo(np.float32).max)
    found = [node.attributes.get_float("min", -most), node.attributes.get_float("max", most)]
    for position in (1, 2):
        value = node.inputs[position] if len(node.inputs) > position else None
        if value is None:
            continue
        bound = scalar(constant_array(value))
        if bound is None or bound.dtype != np.float32:
            return None
        found[position - 1] = float(bound)
    return (found[0], found[1]) if found[0] <= found[1] else None


def one_bound(node: ir.Node, y: ir.Value) -> tuple[float, float] | None:
    """Return the bounds that a Max or Min of `y` and one constant number sets; None where it sets none."""
    others = [value for value in node.inputs if value is not y]
    if len(node.inputs) != 2 or len(others) != 1:
        return None
    # One element of any rank would add axes to y; scalar() takes at most one axis, which y has.
    bound = scalar(constant_array(others[0]))
    if bound is None or bound.dtype != np.float32 or np.isnan(bound):
        return None
    return (float(bound), np.inf) if node.op_type == "Max" else (-np.inf, float(bound))
