"""The scores of an attention: the product of query and key, a factor, a mask."""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from sparse_rt.graph.reads import sole_consumer
from sparse_rt.plan.match.constants import ByteQuantisation
from sparse_rt.plan.match.operators.context import Context
from sparse_rt.plan.match.operators.quantised_attention import requantised

__all__ = ["Scores", "find_scores", "positive_factor"]


@dataclass(frozen=True)
class Scores:
    """What Softmax reads: ``query key^T * scale + mask``.

    Attributes
    ----------
    query, key
        Operands of the product; key is (size, tokens) unless `is_key_in_rows`.
    alpha
        The part of the scale that belongs to the product.
    quantised
        Parameters of QuantizeLinear and DequantizeLinear after the product; None if there are none.
    absorbed
        The nodes, in order of computation.
    """

    query: ir.Value
    key: ir.Value
    is_key_in_rows: bool
    scale: float
    alpha: float
    mask: ir.Value | None
    quantised: ByteQuantisation | None
    absorbed: tuple[ir.Node, ...]


def find_scores(node: ir.Node, context: Context) -> Scores | None:
    """Follow a Softmax back to the product of query and key; None if anybody else needs what lies between."""
    value, scale, mask, quantised = node.inputs[0], 1.0, None, None
    absorbed: tuple[ir.Node, ...] = ()
    below = node
    while value is not None and (here := value.producer()) is not None:
        if sole_consumer(value) is not below:
            return None
        pair = requantised(value, context)
        if pair is not None and quantised is None and sole_consumer(here.inputs[0] or value) is here:
            value, quantised, nodes = pair
            absorbed, below = (*nodes, *absorbed), nodes[0]
            continue
        if here in context.taken:
            return None
        absorbed, below = (here, *absorbed), here
        if (found := _product(here)) is not None:
            query, key, is_key_in_rows, alpha = found
            return Scores(query, key, is_key_in_rows, scale * alpha, alpha, mask, quantised, absorbed)
        factor = positive_factor(here, context)
        if quantised is not None:
            return None
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
    transposed = any(node.attributes.get_int(name, 0) for name in ("transA", "transBatchA", "transBatchB"))
    if query is None or key is None or transposed:
        return None
    return query, key, node.attributes.get_int("transB", 0) == 1, node.attributes.get_float("alpha", 1.0)


def positive_factor(node: ir.Node, context: Context) -> tuple[ir.Value, float] | None:
    """Return what a Mul or Div multiplies by a positive number, and the number."""
    if node.domain != "" or node.op_type not in ("Mul", "Div"):
        return None
    for value, other in ((node.inputs[0], node.inputs[1]), (node.inputs[1], node.inputs[0])):
        number = context.number(other, value)
        if value is not None and number is not None and 0 < number < np.inf:
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
        scaled = positive_factor(producer, context)
        origin = scores if scaled is None else scaled[0]
        pair = None if origin is None else requantised(origin, context)
        origin = origin if pair is None else pair[0]
        last = None if origin is None else origin.producer()
        if last is not None and _product(last) is not None:
            return scores, mask
    return None, None
