"""QuantizeLinear and DequantizeLinear with one constant scale."""

import numpy as np
import onnx_ir as ir
from sparse_rt_kernels.elementwise import Quantisation, prepare_dequantise, prepare_quantise

from sparse_rt.plan.constants import quantisation_of
from sparse_rt.plan.operator_step import OperatorStep, count_of
from sparse_rt.plan.operators.context import Context
from sparse_rt.plan.replacement import Replacement

__all__ = ["match_dequantise", "match_quantise"]

_REAL = np.dtype(np.float32)


def match_quantise(node: ir.Node, context: Context) -> Replacement | None:
    """Match float32 -> bytes."""
    x, parameters = node.inputs[0], quantisation_of(node, context.ir_version)
    if x is None or parameters is None or not context.is_float(x):
        return None
    quantisation, dtype = Quantisation(float(parameters.scale), parameters.zero_point), parameters.dtype
    step = OperatorStep(
        op_type=node.op_type,
        name=str(node.name),
        inputs=(str(x.name),),
        dtypes=(_REAL,),
        y=str(node.outputs[0].name),
        y_dtype=dtype,
        shape_of=lambda shape: shape,
        prepare=lambda shape, _, threads: prepare_quantise(count_of(shape), dtype, quantisation, threads),
    )
    return Replacement(step, (x,), node.outputs[0], (node,))


def match_dequantise(node: ir.Node, context: Context) -> Replacement | None:
    """Match bytes -> float32."""
    x, parameters = node.inputs[0], quantisation_of(node, context.ir_version)
    if x is None or parameters is None or context.is_constant(x):
        return None
    quantisation, dtype = Quantisation(float(parameters.scale), parameters.zero_point), parameters.dtype
    step = OperatorStep(
        op_type=node.op_type,
        name=str(node.name),
        inputs=(str(x.name),),
        dtypes=(dtype,),
        y=str(node.outputs[0].name),
        y_dtype=_REAL,
        shape_of=lambda shape: shape,
        prepare=lambda shape, _, threads: prepare_dequantise(count_of(shape), dtype, quantisation, threads),
    )
    return Replacement(step, (x,), node.outputs[0], (node,))
