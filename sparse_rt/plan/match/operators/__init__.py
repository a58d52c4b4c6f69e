"""Operators between sparse layers that kernels of ours compute, so that a model need not leave our threads."""

from collections.abc import Mapping, Sequence

import onnx_ir as ir
from sparse_rt_kernels.cpu.settings import settings

from sparse_rt.graph.layers.layer import Layer
from sparse_rt.plan.match.dense_layer import dense_replacement
from sparse_rt.plan.match.fusion import FusionOf
from sparse_rt.plan.match.operators.context import Context
from sparse_rt.plan.match.operators.table import CLAIMS, MATCHERS
from sparse_rt.plan.match.operators.worthwhile import worthwhile
from sparse_rt.plan.match.replacement import Replacement

__all__ = ["find_operators"]


def find_operators(
    graph: ir.Graph,
    layers: Sequence[Replacement],
    dense_layers: Sequence[Layer],
    fusion_of: FusionOf,
    tier: str | None,
    ranks: Mapping[ir.Value, int],
) -> list[Replacement]:
    """Return the operators of a graph that are worth a step of ours, given its sparse layers.

    `dense_layers` are those that no sparse kernel runs; they are operators like others, and `fusion_of` finds what they
    compute along. `tier` is that of kernels. `ranks` are the axes of values, as far as they are certain.

    One is worth it if it makes no island where there was none: if all that it reads comes from steps of ours, or
    all that read it are steps of ours. QuantizeLinear after, and DequantizeLinear before an operator of onnxruntime's
    stay with it, which otherwise would compute with floats.
    """
    if settings().is_disabled:
        # These kernels exist as machine code alone.
        return []
    context = Context(ranks, tier)
    for layer in layers:
        context.taken.update(layer.absorbed)
        context.dtypes[layer.y] = layer.step.y_dtype
    found = []
    dense = {layer.node: layer for layer in dense_layers}
    for node in graph:
        if node in context.taken:
            continue
        replacement = dense_replacement(dense[node], fusion_of, tier) if node in dense else _match(node, context)
        if replacement is None:
            continue
        found.append(replacement)
        context.taken.update(replacement.absorbed)
        context.dtypes[replacement.y] = replacement.step.y_dtype
    return worthwhile(graph, layers, found)


def _match(node: ir.Node, context: Context) -> Replacement | None:
    """Return the step of an operator that a kernel of ours computes."""
    try:
        if any(claims(node, context) for claims in CLAIMS.get(node.op_type, ()) if node.domain == ""):
            return None
        found = (match(node, context) for match in MATCHERS.get(node.op_type, ()))
        return next((replacement for replacement in found if replacement is not None), None)
    except ValueError:
        # Parameters that are legal but beyond a kernel, such as a scale of 2**-100: onnxruntime computes those.
        return None
