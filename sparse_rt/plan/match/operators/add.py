"""Add of two activations: the residual connection, with the activation and the quantisation around it."""

import numpy as np
import onnx_ir as ir
from sparse_rt_kernels.between.elementwise import prepare_add, prepare_quantised_add
from sparse_rt_kernels.product.quantised_add import QuantisedAdd

from sparse_rt.plan.match import constants
from sparse_rt.plan.match.operators.context import Context, Ending
from sparse_rt.plan.match.replacement import Replacement
from sparse_rt.plan.steps.add_step import AddStep
from sparse_rt.plan.steps.operator_step import count_of

__all__ = ["match"]

_REAL = np.dtype(np.float32)


def match(node: ir.Node, context: Context) -> Replacement | None:
    """Match Add of bytes (DequantizeLinear twice, Add, clips, QuantizeLinear) or of float32 (Add, clips)."""
    a, b = node.inputs
    if node.domain != "" or a is None or b is None:
        return None
    end = context.ending(node)
    if end.quantised is not None:
        found = [context.quantised(operand) for operand in (a, b)]
        if found[0] is not None and found[1] is not None:
            return _quantised(node, found[0], found[1], end, end.quantised, context.tier)
        end = context.ending(node, quantises=False)
    # Both are of one type, so that knowing one is enough.
    if (context.is_float(a) or context.is_float(b)) and not (context.is_constant(a) or context.is_constant(b)):
        return _float(node, a, b, end)
    return None


def _quantised(
    node: ir.Node,
    a: tuple[ir.Value, constants.ByteQuantisation],
    b: tuple[ir.Value, constants.ByteQuantisation],
    end: Ending,
    y: constants.ByteQuantisation,
    tier: str | None,
) -> Replacement:
    first, second, result = (one.tensor.quantisation for one in (a[1], b[1], y))
    addition = QuantisedAdd(first, second, result, end.low, end.high)
    dtypes = (a[1].dtype, b[1].dtype)
    step = AddStep(
        op_type=node.op_type,
        name=str(node.name),
        inputs=(str(a[0].name), str(b[0].name)),
        x_dtypes=dtypes,
        y=str(end.y.name),
        y_dtype=y.dtype,
        shape_of=lambda shape: shape,
        prepare=lambda shape, _, threads: prepare_quantised_add(
            count_of(shape), *dtypes, y.dtype, addition, threads, tier
        ),
        is_in_place=True,
        alike=("Add", dtypes, y.dtype, addition),
        quantised=addition,
        tier=tier,
    )
    return Replacement(step, (a[0], b[0]), end.y, end.absorbed)


def _float(node: ir.Node, a: ir.Value, b: ir.Value, end: Ending) -> Replacement:
    low, high = end.low, end.high
    step = AddStep(
        op_type=node.op_type,
        name=str(node.name),
        inputs=(str(a.name), str(b.name)),
        x_dtypes=(_REAL, _REAL),
        y=str(end.y.name),
        y_dtype=_REAL,
        shape_of=lambda shape: shape,
        prepare=lambda shape, _, threads: prepare_add(count_of(shape), threads, low, high),
        is_in_place=True,
        alike=("Add", low, high),
        low=end.low,
        high=end.high,
    )
    return Replacement(step, (a, b), end.y, end.absorbed)
