"""AveragePool over images, of float32 or between DequantizeLinear and QuantizeLinear."""

from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir
from sparse_rt_kernels.between.elementwise import Quantisation
from sparse_rt_kernels.between.pooling import prepare_average_pool, prepare_quantised_average_pool
from sparse_rt_kernels.threads.launch import Launch

from sparse_rt.plan.match.operators.context import Context
from sparse_rt.plan.match.operators.window import Window
from sparse_rt.plan.match.replacement import Replacement
from sparse_rt.plan.steps.operator_step import OperatorStep

__all__ = ["match"]

_REAL = np.dtype(np.float32)
#: Opset from which a window without ``ceil_mode`` ends where its pads do.
_CUTS_WINDOWS = 19


def match(node: ir.Node, context: Context) -> Replacement | None:
    """Match the mean of windows; bytes of one dtype on both sides."""
    x, window = node.inputs[0], Window.of(node)
    if node.domain != "" or x is None or window is None:
        return None
    counts_padding = node.attributes.get_int("count_include_pad", 0) != 0
    opset = 0 if node.graph is None else node.graph.opset_imports.get("", 0)
    source, end = context.quantised(x), context.ending(node, clips=False)
    if source is None or end.quantised is None or source[1].dtype != end.quantised.dtype:
        edged = window if opset >= _CUTS_WINDOWS or window.is_rounded_up else _without_end(window)
        return _float(node, x, edged, counts_padding) if context.is_float(x) else None
    if counts_padding and window.is_rounded_up:
        # Of bytes and of floats onnxruntime counts differently there.
        return None
    value, before = source
    window = _without_end(window)
    dtype, sides = before.dtype, [Quantisation(float(one.scale), one.zero_point) for one in (before, end.quantised)]

    def prepare(shape: Any, y_shape: Any, threads: int) -> Launch:
        windows = (window.kernel, window.strides, window.padded, y_shape, counts_padding)
        return prepare_quantised_average_pool(shape, dtype, sides[0], sides[1], *windows, threads)

    step = OperatorStep(
        op_type=node.op_type,
        name=str(node.name),
        inputs=(str(value.name),),
        dtypes=(dtype,),
        y=str(end.y.name),
        y_dtype=dtype,
        shape_of=window.output,
        prepare=prepare,
    )
    return Replacement(step, (value,), end.y, end.absorbed)


def _without_end(window: Window) -> Window:
    """Return a window whose pads have no end: what it covers beyond them counts as padding, too.

    So onnxruntime counts where images are smaller than the kernel, without ``ceil_mode``.
    """
    top, left, bottom, right = window.pads
    pads = (top, left, bottom + window.kernel[0], right + window.kernel[1])
    return replace(window, padded=pads)


def _float(node: ir.Node, x: ir.Value, window: Window, counts_padding: bool) -> Replacement:
    def prepare(shape: Any, y_shape: Any, threads: int) -> Launch:
        windows = (window.kernel, window.strides, window.padded, y_shape, counts_padding)
        return prepare_average_pool(shape, *windows, threads)

    y = node.outputs[0]
    step = OperatorStep(
        op_type=node.op_type,
        name=str(node.name),
        inputs=(str(x.name),),
        dtypes=(_REAL,),
        y=str(y.name),
        y_dtype=_REAL,
        shape_of=window.output,
        prepare=prepare,
    )
    return Replacement(step, (x,), y, (node,))
