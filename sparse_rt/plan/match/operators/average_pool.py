"""AveragePool over images, between DequantizeLinear and QuantizeLinear."""

from typing import Any

import onnx_ir as ir
from sparse_rt_kernels.between.pooling import Window as Windows
from sparse_rt_kernels.between.pooling import prepare_quantised_average_pool
from sparse_rt_kernels.threads.launch import Launch

from sparse_rt.plan.match.operators.context import Context
from sparse_rt.plan.match.operators.window import Window
from sparse_rt.plan.match.replacement import Replacement
from sparse_rt.plan.steps.operator_step import OperatorStep

__all__ = ["match"]


def match(node: ir.Node, context: Context) -> Replacement | None:
    """Match the mean of windows of bytes, of one dtype on both sides; onnxruntime is faster at those of floats."""
    x, window = node.inputs[0], Window.of(node)
    if node.domain != "" or x is None or window is None:
        return None
    counts_padding = node.attributes.get_int("count_include_pad", 0) != 0
    source, end = context.quantised(x), context.ending(node, clips=False)
    if source is None or end.quantised is None or source[1].dtype != end.quantised.dtype:
        return None
    if counts_padding and window.is_rounded_up:
        # Of bytes and of floats onnxruntime counts differently there.
        return None
    value, before = source
    pads = _without_end(window)
    dtype = before.dtype
    read, written = (one.tensor.quantisation for one in (before, end.quantised))

    def prepare(shape: Any, y_shape: Any, threads: int) -> Launch:
        windows = Windows.of(shape, window.kernel, window.strides, pads, y_shape)
        return prepare_quantised_average_pool(windows, counts_padding, dtype, read, written, threads)

    step = OperatorStep(
        op_type=node.op_type,
        name=str(node.name),
        inputs=(str(value.name),),
        x_dtypes=(dtype,),
        y=str(end.y.name),
        y_dtype=dtype,
        shape_of=window.output,
        prepare=prepare,
    )
    return Replacement(step, (value,), end.y, end.absorbed)


def _without_end(window: Window) -> tuple[int, int, int, int]:
    """Return pads that have no end: what a window covers beyond them counts as padding, too.

    So onnxruntime counts where images are smaller than the kernel, without ``ceil_mode``.
    """
    top, left, bottom, right = window.pads
    return top, left, bottom + window.kernel[0], right + window.kernel[1]
