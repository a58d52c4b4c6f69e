"""Attention of a statically quantised model: every product is between DequantizeLinear and QuantizeLinear."""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from sparse_rt_kernels.between.attention import (
    Attention,
    ByteOperand,
    QuantisedAttention,
    prepare_quantised_attention,
)
from sparse_rt_kernels.between.elementwise import QuantisedRows
from sparse_rt_kernels.threads.launch import Launch
from sparse_rt_kernels.vectors.quantisation import ByteTensor

from sparse_rt.graph.reads import sole_consumer
from sparse_rt.plan.match import constants
from sparse_rt.plan.match.operators.context import Context, Source
from sparse_rt.plan.steps.view import View

__all__ = [
    "QuantisedOperand",
    "QuantisedProducts",
    "Written",
    "quantised_context",
    "quantised_operand",
    "requantised",
]


@dataclass(frozen=True, eq=False)
class QuantisedOperand:
    """What query, key or value is read from.

    Attributes
    ----------
    source
        The array, and what its elements stand for.
    view
        How it becomes the operand.
    quantised
        How it is quantised for the product.
    """

    source: Source
    view: View
    quantised: constants.ByteQuantisation


@dataclass(frozen=True, eq=False)
class Written:
    """The value that attention writes.

    Attributes
    ----------
    y
        The value.
    perm
        The order of axes in which it is written.
    merged
        Its shape, after that.
    absorbed
        The nodes from the product to `y`.
    quantised
        Of y.
    """

    y: ir.Value
    perm: tuple[int, ...]
    merged: View
    absorbed: tuple[ir.Node, ...]
    quantised: constants.ByteQuantisation


@dataclass(frozen=True, eq=False)
class QuantisedProducts:
    """All quantisations of an attention, from which its call is prepared."""

    operands: tuple[QuantisedOperand, QuantisedOperand, QuantisedOperand]
    scores: ByteTensor
    weights: ByteTensor
    context: ByteTensor

    def prepare(self, attention: Attention, biases: tuple[NDArray[np.float32] | None, ...], threads: int) -> Launch:
        """Prepare the call; see :class:`sparse_rt.plan.steps.attention_step.AttentionStep`."""
        query, key, value = (_operand(one, bias) for one, bias in zip(self.operands, biases, strict=True))
        products = QuantisedAttention(query, key, value, self.scores, self.weights, self.context)
        return prepare_quantised_attention(attention, products, threads)


def _operand(one: QuantisedOperand, bias: NDArray[np.float32] | None) -> ByteOperand:
    rows = one.source.rows
    source = None if rows is None else QuantisedRows(rows.quantisation, rows.dtype)
    return ByteOperand(one.quantised.tensor, source, bias)


def requantised(
    value: ir.Value, context: Context
) -> tuple[ir.Value, constants.ByteQuantisation, tuple[ir.Node, ir.Node]] | None:
    """Return what `value` is before a QuantizeLinear and a DequantizeLinear of one quantisation, and the two nodes."""
    found = context.quantised(value)
    after = value.producer()
    before = None if found is None else found[0].producer()
    if found is None or after is None or before is None or before.op_type != "QuantizeLinear":
        return None
    parameters, x = constants.quantisation_of(before), before.inputs[0]
    if parameters is None or x is None or not parameters.is_same(found[1]):
        return None
    return x, parameters, (before, after)


def quantised_operand(value: ir.Value, context: Context) -> QuantisedOperand | None:
    """Follow an operand of a product of bytes back to where it comes from.

    That is DequantizeLinear, perhaps QuantizeLinear before it, and what moves elements before that. The nodes are
    bypassed, not absorbed.
    """
    found = context.quantised(value)
    if found is None:
        return None
    here, parameters = found
    pair = requantised(value, context)
    bytes_ = QuantisedOperand(_as_bytes(here, parameters), View(), parameters)
    best = bytes_ if context.is_written(here) else None
    view = View()
    current = None if pair is None else pair[0]
    while current is not None:
        source = context.source(current)
        if context.is_written(source.x) and (source.rows is not None or context.is_float(source.x)):
            best = QuantisedOperand(source, view, parameters)
        node, pair = current.producer(), requantised(current, context)
        if pair is not None and pair[1].is_same(parameters):
            current = pair[0]
            continue
        before = None if node is None else view.after(node)
        if node is None or before is None:
            break
        current, view = node.inputs[0], before
    return best


def _as_bytes(value: ir.Value, parameters: constants.ByteQuantisation) -> Source:
    return Source(value, parameters.dtype, QuantisedRows(parameters.tensor.quantisation, parameters.dtype))


def quantised_context(product: ir.Node, rank: int, context: Context) -> Written | None:
    """Follow the last product to its QuantizeLinear, and to what only moves the bytes after that."""
    quantise = sole_consumer(product.outputs[0])
    if quantise is None or quantise.op_type != "QuantizeLinear" or quantise.inputs[0] is not product.outputs[0]:
        return None
    parameters = constants.quantisation_of(quantise)
    if parameters is None:
        return None
    written = Written(quantise.outputs[0], tuple(range(rank)), View(), (quantise,), parameters)
    while (further := _moved(written, context)) is not None:
        written = further
    return written


def _moved(written: Written, context: Context) -> Written | None:
    """Follow bytes through DequantizeLinear, Transpose or Reshape, and QuantizeLinear back to the same bytes."""
    y, perm, merged, absorbed = written.y, written.perm, written.merged, written.absorbed
    while (node := sole_consumer(y)) is not None and node not in context.taken and node.inputs[0] is y:
        absorbed = (*absorbed, node)
        y = node.outputs[0]
        if node.op_type in ("DequantizeLinear", "QuantizeLinear"):
            parameters = constants.quantisation_of(node)
            if parameters is None or not parameters.is_same(written.quantised):
                return None
            if node.op_type == "QuantizeLinear":
                return Written(y, perm, merged, absorbed, written.quantised)
            continue
        change = View().after(node)
        if change is None:
            return None
        if node.op_type == "Reshape":
            merged = merged.then(change)
            continue
        axes = tuple(node.attributes["perm"].as_ints())
        if merged.changes or len(axes) != len(perm) or axes[-1] != len(perm) - 1:
            return None
        perm = tuple(perm[axis] for axis in axes)
    return None
