"""Attention: MatMul, a factor, a mask, Softmax, MatMul, with the reshapes and transpositions around them."""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from sparse_rt_kernels.attention import is_available, prepare_attention

from sparse_rt.graph.weights import constant_array
from sparse_rt.plan.attention_step import AttentionStep
from sparse_rt.plan.constants import scalar
from sparse_rt.plan.fuse import sole_consumer
from sparse_rt.plan.operators.context import Context
from sparse_rt.plan.replacement import Replacement
from sparse_rt.plan.view import View

__all__ = ["is_next", "match"]

_REAL = np.dtype(np.float32)
_LAST_AXIS_BY_DEFAULT = 13  # opset from which Softmax works along one axis, the last one unless told otherwise


@dataclass(frozen=True)
class _Scores:
    """What Softmax reads: ``query key^T * scale + mask``.

    Attributes
    ----------
    query, key
        Operands of the product; key is (size, tokens) unless `is_key_in_rows`.
    absorbed
        The nodes, in order of computation.
    """

    query: ir.Value
    key: ir.Value
    is_key_in_rows: bool
    scale: float
    mask: ir.Value | None
    absorbed: tuple[ir.Node, ...]


@dataclass(frozen=True)
class _Operand:
    """A value, how the operand of a product is seen in it, and what it is multiplied by."""

    source: ir.Value
    view: View
    factor: float = 1.0


def match(node: ir.Node, context: Context) -> Replacement | None:
    """Match Softmax of a product of two activations, multiplied by a third one."""
    product = sole_consumer(node.outputs[0])
    if not is_available() or node.domain != "" or product is None or product.domain != "":
        return None
    if product.op_type != "MatMul" or product.inputs[0] is not node.outputs[0] or product in context.taken:
        return None
    scores, values = _scores(node, context), product.inputs[1]
    if scores is None or values is None:
        return None
    query, key, value = (_operand(one, context) for one in (scores.query, scores.key, values))
    rank = _rank(query, key, value)
    if rank is None or not _is_last_axis(node, rank) or value.factor != 1.0:
        return None
    view = key.view if scores.is_key_in_rows else key.view.transposed(rank)
    sources = (query.source, key.source, value.source)
    masks = () if scores.mask is None else (scores.mask,)
    if not all(map(context.is_float, sources)) or not all(_is_mask(mask, context) for mask in masks):
        return None
    y, perm, last = _written(product, rank)
    inputs = (*sources, *masks)
    scale = scores.scale * query.factor * key.factor
    if not 0 < scale < np.inf:
        return None
    step = AttentionStep(
        name=str(node.name),
        inputs=tuple(str(one.name) for one in inputs),
        dtypes=(_REAL,) * len(inputs),
        views=(query.view, view, value.view),
        y=str(y.name),
        y_dtype=_REAL,
        perm=perm,
        scale=scale,
        prepare=prepare_attention,
    )
    reads = tuple(one for one in inputs if not context.is_constant(one))
    return Replacement(step, reads, y, (*scores.absorbed, node, product, *last))


def is_next(addition: ir.Node, context: Context) -> bool:
    """Return whether an Add brings a mask to the scores of an attention, which then adds it along."""
    softmax = sole_consumer(addition.outputs[0])
    is_softmax = softmax is not None and softmax.domain == "" and softmax.op_type == "Softmax"
    return is_softmax and softmax is not None and is_available() and _scores(softmax, context) is not None


def _is_mask(value: ir.Value, context: Context) -> bool:
    """Return whether a value, of the scores' type, can be a step's input: if it is a constant, it must have a name."""
    return value.is_initializer() or not context.is_constant(value)


def _is_last_axis(node: ir.Node, rank: int) -> bool:
    """Return whether a Softmax works along the last axis."""
    opset = 0 if node.graph is None else node.graph.opset_imports.get("", 0)
    axis = node.attributes.get_int("axis", -1 if opset >= _LAST_AXIS_BY_DEFAULT else 1)
    return axis in (-1, rank - 1)


def _scores(node: ir.Node, context: Context) -> _Scores | None:
    """Follow a Softmax back to the product of query and key; None if anybody else needs what lies between."""
    value, scale, mask = node.inputs[0], 1.0, None
    absorbed: tuple[ir.Node, ...] = ()
    below = node
    while value is not None and (here := value.producer()) is not None:
        if sole_consumer(value) is not below or here in context.taken:
            return None
        absorbed, below = (here, *absorbed), here
        if (found := _product(here)) is not None:
            query, key, is_key_in_rows, alpha = found
            return _Scores(query, key, is_key_in_rows, scale * alpha, mask, absorbed)
        factor = _factor(here, context)
        if factor is not None:
            value, number = factor
            scale *= number
            continue
        # What is masked is scaled already.
        if here.domain != "" or here.op_type != "Add" or mask is not None or scale != 1.0:
            return None
        value, mask = _masked(here, context)
    return None


def _product(node: ir.Node) -> tuple[ir.Value, ir.Value, bool, float] | None:
    """Return query, key, whether key is (tokens, size), and the factor, of MatMul or onnxruntime's FusedMatMul."""
    if node.op_type not in ("MatMul", "FusedMatMul") or node.domain not in ("", "com.microsoft"):
        return None
    query, key = node.inputs[:2]
    turned = any(node.attributes.get_int(name, 0) for name in ("transA", "transBatchA", "transBatchB"))
    if query is None or key is None or turned:
        return None
    return query, key, node.attributes.get_int("transB", 0) == 1, node.attributes.get_float("alpha", 1.0)


def _factor(node: ir.Node, context: Context) -> tuple[ir.Value, float] | None:
    """Return what a Mul or Div multiplies by a positive number, and the number."""
    if node.domain != "" or node.op_type not in ("Mul", "Div"):
        return None
    for value, other in ((node.inputs[0], node.inputs[1]), (node.inputs[1], node.inputs[0])):
        number = scalar(constant_array(other, context.ir_version))
        if value is not None and number is not None and number.dtype == _REAL and 0 < number < np.inf:
            return value, float(number) if node.op_type == "Mul" else 1.0 / float(number)
        if node.op_type == "Div":
            break
    return None


def _masked(node: ir.Node, context: Context) -> tuple[ir.Value | None, ir.Value | None]:
    """Return the scores and the mask of an Add: a product, perhaps scaled, and anything else."""
    first, second = node.inputs
    for scores, mask in ((first, second), (second, first)):
        producer = None if scores is None else scores.producer()
        if producer is None:
            continue
        scaled = _factor(producer, context)
        origin = producer if scaled is None else scaled[0].producer()
        if origin is not None and _product(origin) is not None:
            return scores, mask
    return None, None


def _operand(value: ir.Value, context: Context) -> _Operand:
    """Look through factors, transpositions and a reshape to the value that an operand is seen in.

    They are bypassed, not absorbed: whoever else reads them keeps them.
    """
    found = best = _Operand(value, View())
    while (node := found.source.producer()) is not None:
        view = found.view.after(node, context.ir_version)
        factor = _factor(node, context)
        if view is not None and node.inputs[0] is not None:
            found = _Operand(node.inputs[0], view, found.factor)
        elif factor is not None:
            found = _Operand(factor[0], found.view, found.factor * factor[1])
        else:
            break
        if context.is_written(found.source):
            best = found
    return best


def _rank(*operands: _Operand) -> int | None:
    """Return how many axes all operands have: 3 or 4; None for others, and where it is not known."""
    ranks = set()
    for one in operands:
        shape = one.source.shape
        ranks.add(one.view.rank if one.view.rank is not None else None if shape is None else len(shape))
    rank = ranks.pop()
    return rank if not ranks and rank in (3, 4) else None


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
