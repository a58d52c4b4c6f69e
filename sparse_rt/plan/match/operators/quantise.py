"""QuantizeLinear and DequantizeLinear with one constant scale."""

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from sparse_rt_kernels.between.elementwise import (
    Quantisation,
    prepare_dequantise,
    prepare_dequantise_rows,
    prepare_quantise,
)

from sparse_rt.graph.reads import sole_consumer
from sparse_rt.plan.match.constants import quantisation_of
from sparse_rt.plan.match.operators.context import Context
from sparse_rt.plan.match.replacement import Replacement
from sparse_rt.plan.steps.operator_step import OperatorStep, count_of
from sparse_rt.plan.steps.step import Shape

__all__ = ["match_dequantise", "match_quantise"]

_REAL = np.dtype(np.float32)


def match_quantise(node: ir.Node, context: Context) -> Replacement | None:
    """Match float32 -> bytes."""
    x, parameters = node.inputs[0], quantisation_of(node)
    if x is None or parameters is None or not context.is_float(x):
        return None
    quantisation, dtype = parameters.tensor.quantisation, parameters.dtype
    tier = context.tier
    step = OperatorStep(
        op_type=node.op_type,
        name=str(node.name),
        inputs=(str(x.name),),
        x_dtypes=(_REAL,),
        y=str(node.outputs[0].name),
        y_dtype=dtype,
        shape_of=lambda shape: shape,
        prepare=lambda shape, _, threads: prepare_quantise(count_of(shape), dtype, quantisation, threads, tier=tier),
        alike=("QuantizeLinear", dtype, quantisation),
    )
    return Replacement(step, (x,), node.outputs[0], (node,))


def match_dequantise(node: ir.Node, context: Context) -> Replacement | None:
    """Match bytes -> float32, with the bias of each column that is added next, if there is one."""
    x, parameters = node.inputs[0], quantisation_of(node)
    if x is None or parameters is None or context.is_constant(x):
        return None
    quantisation, dtype = parameters.tensor.quantisation, parameters.dtype
    biased = _bias_after(node, context)
    if biased is not None:
        return _dequantise_rows(node, x, quantisation, dtype, *biased)
    step = OperatorStep(
        op_type=node.op_type,
        name=str(node.name),
        inputs=(str(x.name),),
        x_dtypes=(dtype,),
        y=str(node.outputs[0].name),
        y_dtype=_REAL,
        shape_of=lambda shape: shape,
        prepare=lambda shape, _, threads: prepare_dequantise(count_of(shape), dtype, quantisation, threads),
        alike=("DequantizeLinear", dtype, quantisation),
    )
    return Replacement(step, (x,), node.outputs[0], (node,))


def _bias_after(node: ir.Node, context: Context) -> tuple[ir.Node, NDArray[np.float32]] | None:
    """Return the Add of a constant vector that alone reads a node's output, and the vector."""
    addition = sole_consumer(node.outputs[0])
    if addition is None or addition.domain != "" or addition.op_type != "Add" or addition in context.taken:
        return None
    other = addition.inputs[1] if addition.inputs[0] is node.outputs[0] else addition.inputs[0]
    bias = context.column_bias(other)
    return None if bias is None else (addition, bias)


def _dequantise_rows(
    node: ir.Node,
    x: ir.Value,
    quantisation: Quantisation,
    dtype: np.dtype[Any],
    addition: ir.Node,
    bias: NDArray[np.float32],
) -> Replacement:
    def shape_of(shape: Shape) -> Shape:
        if not shape or shape[-1] not in (None, bias.size):
            raise ValueError(f"{bias.size} elements on the last axis")
        return shape

    step = OperatorStep(
        op_type=node.op_type,
        name=str(node.name),
        inputs=(str(x.name),),
        x_dtypes=(dtype,),
        y=str(addition.outputs[0].name),
        y_dtype=_REAL,
        shape_of=shape_of,
        prepare=lambda shape, _, threads: prepare_dequantise_rows(
            count_of(shape[:-1]), dtype, quantisation, bias, threads
        ),
        columns=bias.size,
    )
    return Replacement(step, (x,), addition.outputs[0], (node, addition))
