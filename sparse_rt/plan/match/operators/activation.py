"""Activations of one element: Sigmoid and Tanh of float32 by their curves, of bytes all of them by a table."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from sparse_rt_kernels.between.elementwise import QuantisedRows, prepare_activation, prepare_byte_table
from sparse_rt_kernels.threads.launch import Launch
from sparse_rt_kernels.vectors.quantisation import ByteTensor

from sparse_rt.plan.match.operators.context import Context, Source
from sparse_rt.plan.match.replacement import Replacement
from sparse_rt.plan.steps.operator_step import OperatorStep, count_of

__all__ = ["match"]

_REAL = np.dtype(np.float32)
_Function = Callable[[NDArray[np.float64]], NDArray[np.float64]]
#: What has a kernel of its own for float32.
_CURVES: Final = ("Sigmoid", "Tanh")


def _function(node: ir.Node) -> _Function | None:
    """Return what an operator computes, in float64, for tables."""

    def number(name: str, default: float) -> float:
        return node.attributes.get_float(name, default)

    functions: dict[str, _Function] = {
        "Elu": lambda x: np.where(x < 0, number("alpha", 1.0) * np.expm1(x), x),
        "HardSigmoid": lambda x: np.clip(number("alpha", 0.2) * x + number("beta", 0.5), 0.0, 1.0),
        "HardSwish": lambda x: x * np.clip(x / 6.0 + 0.5, 0.0, 1.0),
        "LeakyRelu": lambda x: np.where(x < 0, number("alpha", 0.01) * x, x),
        "Sigmoid": lambda x: 0.5 * (1.0 + np.tanh(0.5 * x)),
        "Softplus": lambda x: np.logaddexp(0.0, x),
        "Tanh": np.tanh,
    }
    return functions.get(node.op_type) if node.domain == "" else None


def match(node: ir.Node, context: Context) -> Replacement | None:
    """Match an activation, with the DequantizeLinear before and the QuantizeLinear after it."""
    x, function = node.inputs[0], _function(node)
    if x is None or function is None or not context.is_float(x):
        return None
    source = context.source(x)
    if source.bias is not None:
        source = Source(x, _REAL)
    if source.rows is None and node.op_type not in _CURVES:
        return None
    end = context.ending(node, clips=False)
    y = None if end.quantised is None else end.quantised.tensor
    curve, tier = node.op_type.lower(), context.tier
    table = None if source.rows is None else _table(function, source.rows, y)

    def prepare(shape: tuple[int, ...], _: tuple[int, ...], threads: int) -> Launch:
        if table is not None:
            return prepare_byte_table(count_of(shape), table, threads, tier)
        return prepare_activation(curve, count_of(shape), threads, y, tier)

    step = OperatorStep(
        op_type=node.op_type,
        name=str(node.name),
        inputs=(str(source.x.name),),
        x_dtypes=(source.dtype,),
        y=str(end.y.name),
        y_dtype=end.dtype,
        shape_of=lambda shape: shape,
        prepare=prepare,
        alike=(curve, y) if table is None else None,
    )
    return Replacement(step, (source.x,), end.y, end.absorbed)


def _table(function: _Function, x: QuantisedRows, y: ByteTensor | None) -> NDArray[Any]:
    """Return what each byte of x becomes, as separate operators compute it: each result rounded to float32."""
    bytes_of_x = np.arange(256, dtype=np.uint8).view(x.dtype).astype(np.float32)
    values = (bytes_of_x - np.float32(x.quantisation.zero_point)) * np.float32(x.quantisation.scale)
    results = function(values.astype(np.float64)).astype(np.float32)
    if y is None:
        return results
    return np.array([y.quantisation.quantise(float(result), y.dtype) for result in results], y.dtype)
