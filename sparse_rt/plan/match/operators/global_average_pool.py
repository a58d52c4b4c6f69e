"""GlobalAveragePool, of float32 or between DequantizeLinear and QuantizeLinear."""

import math

import numpy as np
import onnx_ir as ir
from sparse_rt_kernels.between.pooling import prepare_global_average_pool, prepare_quantised_global_average_pool

from sparse_rt.plan.match.operators.context import Context
from sparse_rt.plan.match.replacement import Replacement
from sparse_rt.plan.steps.operator_step import OperatorStep
from sparse_rt.plan.steps.step import Shape

__all__ = ["match"]

_REAL = np.dtype(np.float32)
_CHANNEL_AXES = 2


def match(node: ir.Node, context: Context) -> Replacement | None:
    """Match the mean over all axes behind the channels."""
    x = node.inputs[0]
    if node.domain != "" or x is None:
        return None
    source, end = context.quantised(x), context.ending(node, clips=False)
    if source is not None and end.quantised is not None:
        value, before = source
        read, written, tier = before.tensor, end.quantised.tensor, context.tier
        step = OperatorStep(
            op_type=node.op_type,
            name=str(node.name),
            inputs=(str(value.name),),
            x_dtypes=(before.dtype,),
            y=str(end.y.name),
            y_dtype=written.dtype,
            shape_of=_pooled,
            prepare=lambda shape, _, threads: prepare_quantised_global_average_pool(
                *_planes(shape), read, written, threads, tier
            ),
        )
        return Replacement(step, (value,), end.y, end.absorbed)
    if not context.is_float(x):
        return None
    step = OperatorStep(
        op_type=node.op_type,
        name=str(node.name),
        inputs=(str(x.name),),
        x_dtypes=(_REAL,),
        y=str(node.outputs[0].name),
        y_dtype=_REAL,
        shape_of=_pooled,
        prepare=lambda shape, _, threads: prepare_global_average_pool(*_planes(shape), threads),
    )
    return Replacement(step, (x,), node.outputs[0], (node,))


def _pooled(shape: Shape) -> Shape:
    if len(shape) <= _CHANNEL_AXES:
        raise ValueError("at least 3 axes")
    if 0 in shape[_CHANNEL_AXES:]:
        raise ValueError("images of at least one pixel")
    return (*shape[:_CHANNEL_AXES], *(1 for _ in shape[_CHANNEL_AXES:]))


def _planes(shape: tuple[int, ...]) -> tuple[int, int]:
    return math.prod(shape[:_CHANNEL_AXES]), math.prod(shape[_CHANNEL_AXES:])
