"""Gelu, as one operator or as the operators that exporters write for it."""

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from sparse_rt_kernels.between.elementwise import prepare_gelu
from sparse_rt_kernels.threads.launch import Launch

from sparse_rt.graph.layers.weights import constant_array
from sparse_rt.graph.reads import sole_consumer
from sparse_rt.plan.match.operators.context import Context, Source
from sparse_rt.plan.match.replacement import Replacement
from sparse_rt.plan.steps.operator_step import OperatorStep, count_of
from sparse_rt.plan.steps.step import Shape

__all__ = ["match", "match_erf"]

_REAL = np.dtype(np.float32)
_ROOT = float(np.sqrt(2.0))
_TOLERANCE = 1e-6


def match(node: ir.Node, context: Context) -> Replacement | None:
    """Match Gelu of ONNX or onnxruntime, FastGelu, and BiasGelu with a constant bias of one axis."""
    x = node.inputs[0]
    if x is None or not context.is_float(x):
        return None
    approximate = node.op_type == "FastGelu" or node.attributes.get_string("approximate", "none") == "tanh"
    bias = None
    if len(node.inputs) > 1 and node.inputs[1] is not None:
        bias = constant_array(node.inputs[1])
        if bias is None or bias.ndim != 1 or bias.dtype != _REAL:
            return None
    return _replacement(node, x, (), node, bias, approximate, context)


def match_erf(node: ir.Node, context: Context) -> Replacement | None:
    """Match ``x / sqrt(2) -> Erf -> + 1 -> * x -> * 0.5``, the factor 0.5 at either end."""
    scaled = None if node.inputs[0] is None else node.inputs[0].producer()
    x = None if scaled is None else _scaled_by(scaled, 1 / _ROOT, context)
    if scaled is None or x is None or not context.is_float(x) or sole_consumer(scaled.outputs[0]) is not node:
        return None
    plus = _following(node, "Add")
    if plus is None or not _has_number(plus, node.outputs[0], 1.0, context):
        return None
    gate = _following(plus, "Mul")
    factor = None if gate is None else _other(gate, plus.outputs[0])
    if gate is None or factor is None:
        return None
    if factor is x:
        last = _following(gate, "Mul")
        if last is None or not _has_number(last, gate.outputs[0], 0.5, context):
            return None
        return _replacement(node, x, (scaled, node, plus, gate), last, None, False, context)
    half = factor.producer()
    if half is None or _scaled_by(half, 0.5, context) is not x or sole_consumer(factor) is not gate:
        return None
    return _replacement(node, x, (scaled, node, plus, half), gate, None, False, context)


def _following(node: ir.Node, op_type: str) -> ir.Node | None:
    found = sole_consumer(node.outputs[0])
    return found if found is not None and found.domain == "" and found.op_type == op_type else None


def _other(node: ir.Node, value: ir.Value) -> ir.Value | None:
    """Return the other operand of a node of two."""
    return node.inputs[1] if node.inputs[0] is value else node.inputs[0]


def _has_number(node: ir.Node, value: ir.Value, wanted: float, context: Context) -> bool:
    """Return whether the other operand of a node of two is the constant `wanted`, which leaves `value` its shape."""
    found = context.number(_other(node, value), value)
    return found is not None and abs(float(found) - wanted) <= _TOLERANCE * wanted


def _scaled_by(node: ir.Node, wanted: float, context: Context) -> ir.Value | None:
    """Return what a Mul or Div multiplies by the constant `wanted`."""
    if node.domain != "" or node.op_type not in ("Mul", "Div"):
        return None
    first, second = node.inputs
    if first is not None and _has_number(node, first, wanted if node.op_type == "Mul" else 1 / wanted, context):
        return first
    if node.op_type == "Mul" and second is not None and _has_number(node, second, wanted, context):
        return second
    return None


def _replacement(
    node: ir.Node,
    x: ir.Value,
    before: tuple[ir.Node, ...],
    last: ir.Node,
    bias: NDArray[np.float32] | None,
    approximate: bool,
    context: Context,
) -> Replacement:
    source = context.source(x)
    if bias is not None and source.bias is not None:
        # The kernel adds one.
        source = Source(x, _REAL)
    added = bias if source.bias is None else source.bias
    end = context.ending(last, clips=False)
    y, tier = None if end.quantised is None else end.quantised.tensor, context.tier

    def shape_of(shape: Shape) -> Shape:
        if added is not None and (not shape or shape[-1] not in (None, added.size)):
            raise ValueError(f"{added.size} elements on the last axis")
        return shape

    def prepare(shape: tuple[int, ...], _: tuple[int, ...], threads: int) -> Launch:
        columns = 1 if not shape else shape[-1]
        rows = count_of(shape) // columns
        return prepare_gelu(rows, columns, threads, bias, approximate, y, source.rows, tier)

    step = OperatorStep(
        op_type="Gelu",
        name=str(node.name),
        inputs=(str(source.x.name),),
        x_dtypes=(source.dtype,),
        y=str(end.y.name),
        y_dtype=end.dtype,
        shape_of=shape_of,
        prepare=prepare,
        columns=0 if source.bias is None else source.bias.size,
        alike=("Gelu", approximate, y) if bias is None and source.rows is None else None,
    )
    return Replacement(step, (source.x,), end.y, (*before, *end.absorbed))
