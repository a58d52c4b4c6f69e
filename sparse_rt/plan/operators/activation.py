"""Sigmoid and Tanh: of float32 by their curves, of bytes by a table."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from sparse_rt_kernels.elementwise import Quantisation, QuantisedRows, prepare_activation, prepare_byte_table
from sparse_rt_kernels.launch import Launch

from sparse_rt.plan.operator_step import OperatorStep, count_of
from sparse_rt.plan.operators.context import Context, Source
from sparse_rt.plan.replacement import Replacement

__all__ = ["match"]

_REAL = np.dtype(np.float32)
#: What the operators compute, in float64, for tables.
_FUNCTIONS: Final[dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]]] = {
    "Sigmoid": lambda x: 0.5 * (1.0 + np.tanh(0.5 * x)),
    "Tanh": np.tanh,
}


def match(node: ir.Node, context: Context) -> Replacement | None:
    """Match an operator of :data:`_FUNCTIONS`, with the DequantizeLinear before and the QuantizeLinear after it."""
    x = node.inputs[0]
    if x is None or not context.is_float(x):
        return None
    source = context.source(x)
    if source.bias is not None:
        source = Source(x, _REAL)
    end = context.ending(node, clips=False)
    y = None if end.quantised is None else Quantisation(float(end.quantised.scale), end.quantised.zero_point)
    y_dtype = end.dtype
    table = None if source.rows is None else _table(node.op_type, source.rows, y, y_dtype)

    def prepare(shape: tuple[int, ...], _: tuple[int, ...], threads: int) -> Launch:
        if table is not None:
            return prepare_byte_table(count_of(shape), table, threads)
        return prepare_activation(node.op_type.lower(), count_of(shape), threads, y, None if y is None else y_dtype)

    step = OperatorStep(
        op_type=node.op_type,
        name=str(node.name),
        inputs=(str(source.x.name),),
        dtypes=(source.dtype,),
        y=str(end.y.name),
        y_dtype=y_dtype,
        shape_of=lambda shape: shape,
        prepare=prepare,
    )
    return Replacement(step, (source.x,), end.y, end.absorbed)


def _table(op_type: str, x: QuantisedRows, y: Quantisation | None, y_dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return what each byte of x becomes, as separate operators compute it: each result rounded to float32."""
    bytes_of_x = np.arange(256, dtype=np.uint8).view(x.dtype).astype(np.float32)
    values = (bytes_of_x - np.float32(x.quantisation.zero_point)) * np.float32(x.quantisation.scale)
    results = _FUNCTIONS[op_type](values.astype(np.float64)).astype(np.float32)
    if y is None:
        return results
    return np.array([y.quantise(float(result), y_dtype) for result in results], y_dtype)
