"""LayerNormalization over the last axis, with the residual Add before it and the QuantizeLinear after it."""

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from sparse_rt_kernels.between.elementwise import Norm, NormOutputs, prepare_layer_norm
from sparse_rt_kernels.threads.launch import Launch

from sparse_rt.graph.layers.weights import constant_array
from sparse_rt.graph.reads import sole_consumer
from sparse_rt.plan.match.operators.context import Context, Source
from sparse_rt.plan.match.replacement import Replacement
from sparse_rt.plan.steps.operator_step import OperatorStep, count_of
from sparse_rt.plan.steps.step import Shape

__all__ = ["claims", "match", "match_skip"]

_REAL = np.dtype(np.float32)


def _norm_of(node: ir.Node, gamma: int) -> Norm | None:
    """Read the constants of a node whose input `gamma` is the scale, and the next one the shift."""
    if node.attributes.get_int("axis", -1) != -1 or any(value.uses() for value in node.outputs[1:]):
        return None
    if any(value.is_graph_output() for value in node.outputs[1:]):
        return None
    scale = constant_array(node.inputs[gamma])
    if scale is None or scale.dtype != _REAL or scale.ndim != 1:
        return None
    shift: NDArray[np.float32] | None = np.zeros_like(scale)
    if len(node.inputs) > gamma + 1 and node.inputs[gamma + 1] is not None:
        shift = constant_array(node.inputs[gamma + 1])
    if shift is None or shift.dtype != _REAL or shift.shape != scale.shape:
        return None
    # Copies: steps keep them, and not the model's file.
    epsilon = node.attributes.get_float("epsilon", 1e-5)
    return Norm(np.array(scale, order="C"), np.array(shift, order="C"), epsilon)


def claims(addition: ir.Node, _: Context) -> bool:
    """Return whether an Add is the residual connection of a normalisation, which then computes it along."""
    norm = sole_consumer(addition.outputs[0])
    return norm is not None and norm.op_type == "LayerNormalization" and _norm_of(norm, 1) is not None


def match(node: ir.Node, context: Context) -> Replacement | None:
    """Match LayerNormalization; an Add of two activations before it is part of it."""
    norm, x = _norm_of(node, 1), node.inputs[0]
    if node.domain != "" or norm is None or x is None:
        return None
    addition = x.producer()
    if addition is not None and addition.domain == "" and addition.op_type == "Add" and addition not in context.taken:
        a, b = addition.inputs
        if a is not None and b is not None and sole_consumer(x) is node and _are_floats(a, b, context):
            return _replacement(node, norm, (a, b), (addition,), context)
    if not context.is_float(x):
        return None
    return _replacement(node, norm, (x,), (), context)


def match_skip(node: ir.Node, context: Context) -> Replacement | None:
    """Match onnxruntime's SkipLayerNormalization without a bias, of whose outputs only the first is used."""
    norm = _norm_of(node, 2)
    a, b = node.inputs[:2]
    if norm is None or a is None or b is None or (len(node.inputs) > 4 and node.inputs[4] is not None):
        return None
    if not _are_floats(a, b, context):
        return None
    return _replacement(node, norm, (a, b), (), context)


def _are_floats(a: ir.Value, b: ir.Value, context: Context) -> bool:
    constant = context.is_constant(a) or context.is_constant(b)
    return not constant and (context.is_float(a) or context.is_float(b))


def _source(value: ir.Value, norm: Norm, context: Context) -> Source:
    found = context.source(value)
    return found if found.bias is None or found.bias.size == norm.gamma.size else Source(value, _REAL)


def _replacement(
    node: ir.Node, norm: Norm, reads: tuple[ir.Value, ...], before: tuple[ir.Node, ...], context: Context
) -> Replacement:
    sources, end = [_source(value, norm, context) for value in reads], context.ending(node, clips=False)
    residual = len(sources) > 1 and (sources[1].rows or True)
    quantised, tier = None if end.quantised is None else end.quantised.tensor, context.tier
    outputs = NormOutputs() if quantised is None else NormOutputs(y=None, quantised=0)

    def shape_of(shape: Shape) -> Shape:
        if not shape or shape[-1] not in (None, norm.gamma.size):
            raise ValueError(f"{norm.gamma.size} elements on the last axis")
        return shape

    def prepare(shape: tuple[int, ...], _: tuple[int, ...], threads: int) -> Launch:
        rows = count_of(shape[:-1])
        return prepare_layer_norm(rows, norm, threads, residual, outputs, quantised, sources[0].rows, tier)

    alike = None
    if all(source.rows is None for source in sources):
        alike = ("LayerNormalization", len(sources), norm.gamma.size, norm.epsilon, quantised)
    step = OperatorStep(
        op_type=node.op_type,
        name=str(node.name),
        inputs=tuple(str(source.x.name) for source in sources),
        x_dtypes=tuple(source.dtype for source in sources),
        y=str(end.y.name),
        y_dtype=end.dtype,
        shape_of=shape_of,
        prepare=prepare,
        columns=0 if all(source.bias is None for source in sources) else norm.gamma.size,
        alike=alike,
        constants=(norm.gamma.ctypes.data, norm.beta.ctypes.data),
    )
    return Replacement(step, tuple(source.x for source in sources), end.y, (*before, *end.absorbed))
