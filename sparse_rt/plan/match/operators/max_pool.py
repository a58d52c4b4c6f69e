"""MaxPool over images, of float32 or of bytes."""

from typing import Any

import onnx_ir as ir
from sparse_rt_kernels.between.pooling import Window as Windows
from sparse_rt_kernels.between.pooling import prepare_max_pool
from sparse_rt_kernels.threads.launch import Launch

from sparse_rt.plan.match.operators.context import Context
from sparse_rt.plan.match.operators.window import Window
from sparse_rt.plan.match.replacement import Replacement
from sparse_rt.plan.steps.operator_step import OperatorStep

__all__ = ["match"]


def match(node: ir.Node, context: Context) -> Replacement | None:
    """Match MaxPool of float32 or bytes, or of dequantised bytes that are quantised again as they were."""
    window, x = Window.of(node), node.inputs[0]
    if node.domain != "" or window is None or x is None:
        return None
    passage = context.passage(node)
    x, dtype = passage.x, passage.dtype
    if dtype is None or dtype.char not in "fbB" or context.is_constant(x):
        return None

    def prepare(shape: Any, y_shape: Any, threads: int) -> Launch:
        windows = Windows.of(shape, window.kernel, window.strides, window.pads, y_shape)
        return prepare_max_pool(windows, dtype, threads)

    step = OperatorStep(
        op_type=node.op_type,
        name=str(node.name),
        inputs=(str(x.name),),
        x_dtypes=(dtype,),
        y=str(passage.y.name),
        y_dtype=dtype,
        shape_of=window.output,
        prepare=prepare,
        alike=("MaxPool", dtype, window),
    )
    return Replacement(step, (x,), passage.y, passage.absorbed)
