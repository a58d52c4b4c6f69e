"""Softmax along the last axis."""

import numpy as np
import onnx_ir as ir
from sparse_rt_kernels.between.elementwise import prepare_softmax

from sparse_rt.plan.match.operators.context import Context, is_along_last_axis
from sparse_rt.plan.match.replacement import Replacement
from sparse_rt.plan.steps.operator_step import OperatorStep, count_of
from sparse_rt.plan.steps.step import Shape

__all__ = ["match"]

_REAL = np.dtype(np.float32)


def match(node: ir.Node, context: Context) -> Replacement | None:
    """Match Softmax of float32 that is an output of the model, the end of a classifier.

    Between other operators it belongs to an attention, which has its own matcher, or stays where its neighbours are.
    """
    x, y = node.inputs[0], node.outputs[0]
    if x is None or node.domain != "" or not context.is_float(x) or not y.is_graph_output():
        return None
    if not is_along_last_axis(node, context.ranks.get(x)):
        return None
    step = OperatorStep(
        op_type=node.op_type,
        name=str(node.name),
        inputs=(str(x.name),),
        x_dtypes=(_REAL,),
        y=str(y.name),
        y_dtype=_REAL,
        shape_of=_same_shape,
        prepare=lambda shape, _, threads: prepare_softmax(count_of(shape[:-1]), shape[-1], threads),
        is_in_place=True,
        alike=("Softmax", _REAL),
    )
    return Replacement(step, (x,), y, (node,))


def _same_shape(shape: Shape) -> Shape:
    if not shape:
        raise ValueError("at least one axis")
    return shape
