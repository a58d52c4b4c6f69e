"""Operators between sparse layers that kernels of ours compute, so that a model need not leave our threads."""

from collections.abc import Callable, Mapping, Sequence

import onnx_ir as ir
from sparse_rt_kernels.settings import settings

from sparse_rt.graph.layer import Layer
from sparse_rt.plan.dense_layer import dense_replacement
from sparse_rt.plan.operators import (
    activation,
    add,
    attention,
    average_pool,
    concat,
    gelu,
    global_average_pool,
    layer_norm,
    max_pool,
    quantise,
    reshape,
    softmax,
)
from sparse_rt.plan.operators.context import Context
from sparse_rt.plan.replacement import Replacement
from sparse_rt.plan.schedule import outer_inputs

__all__ = ["find_operators"]

_MATCHERS: dict[str, Callable[[ir.Node, Context], Replacement | None]] = {
    "Add": add.match,
    "AveragePool": average_pool.match,
    "Concat": concat.match,
    "DequantizeLinear": quantise.match_dequantise,
    "BiasGelu": gelu.match,
    "Elu": activation.match,
    "Erf": gelu.match_erf,
    "FastGelu": gelu.match,
    "Flatten": reshape.match,
    "Gelu": gelu.match,
    "GlobalAveragePool": global_average_pool.match,
    "HardSigmoid": activation.match,
    "HardSwish": activation.match,
    "LayerNormalization": layer_norm.match,
    "LeakyRelu": activation.match,
    "MaxPool": max_pool.match,
    "QuantizeLinear": quantise.match_quantise,
    "Reshape": reshape.match,
    "Sigmoid": activation.match,
    "SkipLayerNormalization": layer_norm.match_skip,
    "Softmax": lambda node, context: attention.match(node, context) or softmax.match(node, context),
    "Softplus": activation.match,
    "Tanh": activation.match,
}


def find_operators(
    model: ir.Model,
    layers: Sequence[Replacement],
    dense_layers: Sequence[Layer],
    tier: str | None,
    ranks: Mapping[ir.Value, int],
) -> list[Replacement]:
    """Return the operators of a model's graph that are worth a step of ours, given its sparse layers.

    `dense_layers` are those that no sparse kernel runs; they are operators like others. `tier` is that of kernels.
    `ranks` are the axes of values, as far as they are certain.

    One is worth it if it makes no island where there was none: if all that it reads comes from steps of ours, or
    all that read it are steps of ours. QuantizeLinear after, and DequantizeLinear before an operator of onnxruntime's
    stay with it, which otherwise would compute with floats.
    """
    if settings().is_disabled:
        # These kernels exist as machine code alone.
        return []
    context = Context(int(model.ir_version or 0), ranks)
    for layer in layers:
        context.taken.update(layer.absorbed)
        context.dtypes[layer.y] = layer.step.y_dtype
    found = []
    dense = {layer.node: layer for layer in dense_layers}
    for node in model.graph:
        if node in context.taken:
            continue
        replacement = (
            dense_replacement(dense[node], context.ir_version, tier) if node in dense else _match(node, context)
        )
        if replacement is None:
            continue
        found.append(replacement)
        context.taken.update(replacement.absorbed)
        context.dtypes[replacement.y] = replacement.step.y_dtype
    return _worthwhile(model.graph, layers, found)


def _match(node: ir.Node, context: Context) -> Replacement | None:
    """Return the step of an operator that a kernel of ours computes."""
    match = _MATCHERS.get(node.op_type)
    try:
        return None if match is None else match(node, context)
    except ValueError:
        # Parameters that are legal but beyond a kernel, such as a scale of 2**-100: onnxruntime computes those.
        return None


def _worthwhile(graph: ir.Graph, layers: Sequence[Replacement], found: list[Replacement]) -> list[Replacement]:
    """Leave out operators, one round after the other, until all that are left are worth a step of their own."""
    while True:
        ours = [*layers, *found]
        made = {replacement.y for replacement in ours}
        read_by_us = {value for replacement in ours for value in replacement.reads}
        read_by_onnxruntime = _read_by_onnxruntime(graph, ours)
        kept = [one for one in found if _is_worthwhile(one, made, read_by_us, read_by_onnxruntime)]
        if len(kept) == len(found):
            return kept
        found = kept


def _is_worthwhile(
    one: Replacement, made: set[ir.Value], read_by_us: set[ir.Value], read_by_onnxruntime: set[ir.Value]
) -> bool:
    """Return whether an operator that has a neighbour among our steps makes no island; see :func:`find_operators`."""
    before = all(value in made or value.is_graph_input() for value in one.reads)
    after = one.y not in read_by_onnxruntime
    touches = any(value in made for value in one.reads) or one.y in read_by_us
    if one.absorbed[0].op_type == "QuantizeLinear":
        return touches and before
    if one.absorbed[0].op_type == "DequantizeLinear":
        return touches and after
    return touches and (before or after)


def _read_by_onnxruntime(graph: ir.Graph, ours: Sequence[Replacement]) -> set[ir.Value]:
    """Return the values that nodes outside our steps read, as far as anybody needs those nodes."""
    absorbed = {node for replacement in ours for node in replacement.absorbed}
    needed = {*graph.outputs, *(value for replacement in ours for value in replacement.reads)}
    read: set[ir.Value] = set()
    for node in reversed(graph):
        if node not in absorbed and not needed.isdisjoint(node.outputs):
            inputs = outer_inputs(node)
            needed.update(inputs)
            read.update(inputs)
    return read
