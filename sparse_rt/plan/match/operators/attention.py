"""Attention: MatMul, a factor, a mask, Softmax, MatMul, with the reshapes and transpositions around them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from sparse_rt_kernels.between.attention import Attention, are_bytes_available, is_available, prepare_attention
from sparse_rt_kernels.threads.launch import Launch

from sparse_rt.graph.reads import sole_consumer
from sparse_rt.plan.match.operators.attention_scores import Scores, find_scores, positive_factor
from sparse_rt.plan.match.operators.context import Context, is_along_last_axis
from sparse_rt.plan.match.operators.quantised_attention import (
    QuantisedProducts,
    quantised_context,
    quantised_operand,
    requantised,
)
from sparse_rt.plan.match.replacement import Replacement
from sparse_rt.plan.steps.attention_step import AttentionStep
from sparse_rt.plan.steps.view import View

__all__ = ["claims", "match"]

_REAL = np.dtype(np.float32)
#: Through how many transpositions and reshapes an operand is followed; exporters write three.
_MOST_CHANGES = 32
_Prepare = Callable[[Attention, tuple[NDArray[np.float32] | None, ...], int], Launch]


@dataclass(frozen=True)
class _Step:
    """All that a step is made of, but the mask: see :class:`AttentionStep`."""

    node: ir.Node
    sources: tuple[ir.Value, ir.Value, ir.Value]
    dtypes: tuple[np.dtype[Any], np.dtype[Any], np.dtype[Any]]
    views: tuple[View, View, View]
    y: ir.Value
    y_dtype: np.dtype[Any]
    perm: tuple[int, ...]
    scale: float
    absorbed: tuple[ir.Node, ...]
    merged: View = View()  # noqa: RUF009, immutable
    biases: tuple[NDArray[np.float32] | None, ...] = (None, None, None)

    def replacement(self, scores: Scores, rank: int, context: Context, prepare: _Prepare) -> Replacement | None:
        """Return the step; None if a kernel cannot compute it."""
        masks = () if scores.mask is None else (scores.mask,)
        if not is_along_last_axis(self.node, rank) or not 0 < self.scale < np.inf:
            return None
        if not all(_is_mask(mask, context) for mask in masks):
            return None
        inputs = (*self.sources, *masks)
        step = AttentionStep(
            op_type="Attention",
            name=str(self.node.name),
            inputs=tuple(str(one.name) for one in inputs),
            x_dtypes=(*self.dtypes, *(_REAL for _ in masks)),
            views=self.views,
            y=str(self.y.name),
            y_dtype=self.y_dtype,
            perm=self.perm,
            scale=self.scale,
            prepare=prepare,
            merged=self.merged,
            biases=self.biases,
        )
        reads = tuple(one for one in inputs if not context.is_constant(one))
        return Replacement(step, reads, self.y, self.absorbed)


@dataclass(frozen=True)
class _Operand:
    """A value, how the operand of a product is seen in it, and what it is multiplied by."""

    source: ir.Value
    view: View
    factor: float = 1.0


def match(node: ir.Node, context: Context) -> Replacement | None:
    """Match Softmax of a product of two activations, multiplied by a third one."""
    if not is_available(context.tier) or node.domain != "":
        return None
    scores = find_scores(node, context)
    if scores is None:
        return None
    return _float(node, scores, context) if scores.quantised is None else _quantised(node, scores, context)


def _float(node: ir.Node, scores: Scores, context: Context) -> Replacement | None:
    """Match products of float32."""
    product = _second_product(node.outputs[0], context)
    values = None if product is None else product.inputs[1]
    if product is None or values is None:
        return None
    query, key, value = (_operand(one, context) for one in (scores.query, scores.key, values))
    ranks = {_rank(one.source, one.view, context) for one in (query, key, value)}
    rank = ranks.pop()
    sources = (query.source, key.source, value.source)
    if ranks or rank is None or not all(map(context.is_float, sources)) or value.factor != 1.0:
        return None
    y, perm, last = _written(product, rank)
    scale = scores.scale * query.factor * key.factor
    views = (query.view, key.view if scores.is_key_in_rows else key.view.transposed(rank), value.view)
    absorbed = (*scores.absorbed, node, product, *last)
    made = _Step(node, sources, (_REAL,) * 3, views, y, _REAL, perm, scale, absorbed)
    return made.replacement(scores, rank, context, _prepare_floats)


def _prepare_floats(attention: Attention, _: tuple[NDArray[np.float32] | None, ...], threads: int) -> Launch:
    return prepare_attention(attention, threads)


def _quantised(node: ir.Node, scores: Scores, context: Context) -> Replacement | None:
    """Match products of bytes: Softmax's weights and the context are quantised, too."""
    quantise = sole_consumer(node.outputs[0])
    dequantise = None if quantise is None else sole_consumer(quantise.outputs[0])
    pair = None if dequantise is None else requantised(dequantise.outputs[0], context)
    if (
        pair is None
        or pair[0] is not node.outputs[0]
        or not are_bytes_available(context.tier)
        or scores.quantised is None
    ):
        return None
    product = _second_product(pair[2][1].outputs[0], context)
    values = None if product is None else product.inputs[1]
    if product is None or values is None:
        return None
    query, key, value = (quantised_operand(one, context) for one in (scores.query, scores.key, values))
    if query is None or key is None or value is None or scores.alpha != 1.0:
        return None
    operands = (query, key, value)
    ranks = {_rank(one.source.x, one.view, context) for one in operands}
    rank = ranks.pop()
    written = None if ranks or rank is None else quantised_context(product, rank, context)
    if rank is None or written is None:
        return None
    views = (query.view, key.view if scores.is_key_in_rows else key.view.transposed(rank), value.view)
    products = QuantisedProducts(operands, scores.quantised.tensor, pair[1].tensor, written.quantised.tensor)
    made = _Step(
        node,
        (query.source.x, key.source.x, value.source.x),
        (query.source.dtype, key.source.dtype, value.source.dtype),
        views,
        written.y,
        written.quantised.dtype,
        written.perm,
        scores.scale,
        (*scores.absorbed, node, *pair[2], product, *written.absorbed),
        written.merged,
        (query.source.bias, key.source.bias, value.source.bias),
    )
    return made.replacement(scores, rank, context, products.prepare)


def _second_product(weights: ir.Value, context: Context) -> ir.Node | None:
    """Return the MatMul that multiplies the weights by the value, if nobody else reads them."""
    product = sole_consumer(weights)
    if product is None or product.domain != "" or product.op_type != "MatMul" or product in context.taken:
        return None
    return product if product.inputs[0] is weights else None


def claims(addition: ir.Node, context: Context) -> bool:
    """Return whether an Add brings a mask to the scores of an attention, which then adds it along."""
    softmax = sole_consumer(addition.outputs[0])
    is_softmax = softmax is not None and softmax.domain == "" and softmax.op_type == "Softmax"
    if softmax is None or not is_softmax or not is_available(context.tier):
        return False
    return find_scores(softmax, context) is not None


def _is_mask(value: ir.Value, context: Context) -> bool:
    """Return whether a value, of the scores' type, can be a step's input: if it is a constant, it must have a name."""
    return value.is_initializer() or not context.is_constant(value)


def _operand(value: ir.Value, context: Context) -> _Operand:
    """Look through factors, transpositions and a reshape to the value that an operand is seen in.

    They are bypassed, not absorbed: whoever else reads them keeps them.
    """
    found = best = _Operand(value, View())
    while (node := found.source.producer()) is not None and len(found.view.changes) < _MOST_CHANGES:
        view = found.view.after(node)
        factor = positive_factor(node, context)
        if view is not None and node.inputs[0] is not None:
            found = _Operand(node.inputs[0], view, found.factor)
        elif factor is not None:
            found = _Operand(factor[0], found.view, found.factor * factor[1])
        else:
            break
        if context.is_written(found.source):
            best = found
    return best


def _rank(source: ir.Value, view: View, context: Context) -> int | None:
    """Return how many axes an operand has: 3 or 4; None for others, and where it is not known."""
    rank = context.ranks.get(source) if view.rank is None else view.rank
    return rank if rank in (3, 4) else None


def _written(product: ir.Node, rank: int) -> tuple[ir.Value, tuple[int, ...], tuple[ir.Node, ...]]:
    """Return the value to write, its order of axes, and the node that brings it into that order."""
    y = product.outputs[0]
    following = sole_consumer(y)
    if following is not None and following.domain == "" and following.op_type == "Transpose":
        attribute = following.attributes.get("perm")
        perm = tuple(range(rank))[::-1] if attribute is None else tuple(attribute.as_ints())
        if len(perm) == rank and perm[-1] == rank - 1:
            return following.outputs[0], perm, (following,)
    return y, tuple(range(rank)), ()
