"""Operators between sparse layers that kernels of ours compute, so that a model need not leave our threads."""

from collections.abc import Callable, Mapping, Sequence

import onnx_ir as ir
from sparse_rt_kernels.cpu.settings import settings

from sparse_rt.graph.captures import outer_inputs
from sparse_rt.graph.layers.layer import Layer
from sparse_rt.plan.draft import Draft
from sparse_rt.plan.match.dense_layer import dense_replacement
from sparse_rt.plan.match.operators import (
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
from sparse_rt.plan.match.operators.context import Context
from sparse_rt.plan.match.replacement import Replacement

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
    draft: Draft,
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
    context = Context(ranks, tier)
    for layer in layers:
        context.taken.update(layer.absorbed)
        context.dtypes[layer.y] = layer.step.y_dtype
    found = []
    dense = {layer.node: layer for layer in dense_layers}
    graph = draft.model.graph
    for node in graph:
        if node in context.taken:
            continue
        replacement = dense_replacement(draft, dense[node], tier) if node in dense else _match(node, context)
        if replacement is None:
            continue
        found.append(replacement)
        context.taken.update(replacement.absorbed)
        context.dtypes[replacement.y] = replacement.step.y_dtype
    return _worthwhile(graph, layers, found)


def _match(node: ir.Node, context: Context) -> Replacement | None:
    """Return the step of an operator that a kernel of ours computes."""
    match = _MATCHERS.get(node.op_type)
    try:
        return None if match is None else match(node, context)
    except ValueError:
        # Parameters that are legal but beyond a kernel, such as a scale of 2**-100: onnxruntime computes those.
        return None


def _worthwhile(graph: ir.Graph, layers: Sequence[Replacement], found: list[Replacement]) -> list[Replacement]:
    """Leave out operators, one round after the other, until all that are left are worth a step of their own.

    Only what leaving one out may have changed is looked at again, so that a chain of n costs n looks, not n rounds.
    """
    kept = _Kept(graph, layers, found)
    doubtful = dict.fromkeys(found)
    while doubtful:
        refused = [one for one in doubtful if not kept.is_worthwhile(one)]
        doubtful = dict.fromkeys(other for one in refused for other in kept.leave_out(one))
        for one in refused:
            doubtful.pop(one, None)
    return [one for one in found if one in kept.operators]


class _Kept:
    """The steps that are left, and who reads what."""

    def __init__(self, graph: ir.Graph, layers: Sequence[Replacement], found: Sequence[Replacement]) -> None:
        ours = [*layers, *found]
        self.operators = set(found)
        self._writers = {replacement.y: replacement for replacement in found}
        self._readers: dict[ir.Value, dict[Replacement, None]] = {}
        for replacement in ours:
            for value in replacement.reads:
                self._readers.setdefault(value, {})[replacement] = None
        self._made = {replacement.y for replacement in ours}
        self._absorbed = {node for replacement in ours for node in replacement.absorbed}
        #: Values that somebody needs; and those that nodes outside our steps read, if anybody needs those.
        self._needed = {*graph.outputs, *self._readers}
        self._read_by_onnxruntime: set[ir.Value] = set()
        self._live: set[ir.Node] = set()
        for node in reversed(graph):
            if node not in self._absorbed and not self._needed.isdisjoint(node.outputs):
                self._add_node(node)

    def is_worthwhile(self, one: Replacement) -> bool:
        """Return whether an operator that has a neighbour among our steps makes no island; see `find_operators`."""
        before = all(value in self._made or value.is_graph_input() for value in one.reads)
        after = one.y not in self._read_by_onnxruntime
        touches = any(value in self._made for value in one.reads) or bool(self._readers.get(one.y))
        if one.absorbed[0].op_type == "QuantizeLinear":
            return touches and before
        if one.absorbed[0].op_type == "DequantizeLinear":
            return touches and after
        return touches and (before or after)

    def leave_out(self, one: Replacement) -> list[Replacement]:
        """Give an operator to onnxruntime; return those for which that may matter."""
        self.operators.discard(one)
        self._made.discard(one.y)
        self._absorbed.difference_update(one.absorbed)
        touched = list(self._readers.get(one.y, ()))
        for value in dict.fromkeys(one.reads):
            del self._readers[value][one]
            if value in self._writers:
                touched.append(self._writers[value])
        nodes = [node for node in one.absorbed if not self._needed.isdisjoint(node.outputs)]
        while nodes:
            for value in self._add_node(nodes.pop()):
                if value in self._writers:
                    touched.append(self._writers[value])
                node = value.producer()
                if node is not None and node not in self._absorbed and node not in self._live:
                    nodes.append(node)
        return [other for other in touched if other in self.operators]

    def _add_node(self, node: ir.Node) -> list[ir.Value]:
        """Count a node that somebody needs as onnxruntime's; return the values that only it reads there."""
        self._live.add(node)
        values = [value for value in outer_inputs(node) if value not in self._read_by_onnxruntime]
        self._read_by_onnxruntime.update(values)
        self._needed.update(values)
        return values
