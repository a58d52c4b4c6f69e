"""Concat of float32, or of dequantised bytes that are quantised again."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from sparse_rt.plan.match import constants
from sparse_rt.plan.match.operators.context import Context, Ending
from sparse_rt.plan.match.replacement import Replacement
from sparse_rt.plan.steps.concat_step import ConcatStep

__all__ = ["match"]

_REAL = np.dtype(np.float32)


def match(node: ir.Node, context: Context) -> Replacement | None:
    """Match Concat of values that are no constants."""
    values = [value for value in node.inputs if value is not None]
    if node.domain != "" or len(values) != len(node.inputs) or any(map(context.is_constant, values)):
        return None
    end = context.ending(node, clips=False)
    if end.quantised is not None:
        found = [source for value in values if (source := context.quantised(value)) is not None]
        fit = len(found) == len(values) and all(one[1].dtype == end.quantised.dtype for one in found)
        return _quantised(node, found, end, end.quantised, context.tier) if fit else None
    if not all(map(context.is_float, values)):
        return None
    step = _step(node, values, node.outputs[0], _REAL, (None,) * len(values), context.tier)
    return Replacement(step, tuple(values), node.outputs[0], (node,))


def _quantised(
    node: ir.Node,
    sources: list[tuple[ir.Value, constants.ByteQuantisation]],
    end: Ending,
    y: constants.ByteQuantisation,
    tier: str | None,
) -> Replacement:
    tables = tuple(None if one.is_same(y) else _table(one, y) for _, one in sources)
    values = [value for value, _ in sources]
    return Replacement(_step(node, values, end.y, y.dtype, tables, tier), tuple(values), end.y, end.absorbed)


def _step(
    node: ir.Node,
    values: Sequence[ir.Value],
    y: ir.Value,
    dtype: np.dtype[Any],
    tables: Sequence[NDArray[Any] | None],
    tier: str | None,
) -> ConcatStep:
    return ConcatStep(
        op_type="Concat",
        name=str(node.name),
        inputs=tuple(str(value.name) for value in values),
        x_dtypes=(dtype,) * len(values),
        y=str(y.name),
        y_dtype=dtype,
        axis=node.attributes.get_int("axis"),
        tables=tuple(tables),
        tier=tier,
    )


def _table(x: constants.ByteQuantisation, y: constants.ByteQuantisation) -> NDArray[np.generic]:
    """Return what each byte of x becomes, as DequantizeLinear and QuantizeLinear compute it."""
    bytes_of_x = np.arange(256, dtype=np.uint8).view(x.dtype).astype(np.float32)
    with np.errstate(over="ignore", under="ignore"):
        values = (bytes_of_x - np.float32(x.zero_point)) * np.float32(x.scale)
    target = y.tensor.quantisation
    return np.array([target.quantise(float(value), y.dtype) for value in values], y.dtype)
