"""Flatten and Reshape, which move no element."""

import math
from collections.abc import Callable

import onnx_ir as ir

from sparse_rt.graph.layers.weights import constant_array
from sparse_rt.plan.match.operators.context import Context
from sparse_rt.plan.match.replacement import Replacement
from sparse_rt.plan.steps.reshape_step import ReshapeStep

__all__ = ["match"]


def match(node: ir.Node, context: Context) -> Replacement | None:
    """Match Flatten, and Reshape to a constant shape, of arrays of any known dtype."""
    if node.domain != "" or node.inputs[0] is None:
        return None
    target = _axis(node) if node.op_type == "Flatten" else _target(node)
    passage = context.passage(node)
    if target is None or passage.dtype is None or context.is_constant(passage.x):
        return None
    shape_of = _flatten(*target) if node.op_type == "Flatten" else _reshape(target)
    step = ReshapeStep(
        op_type=node.op_type,
        name=str(node.name),
        inputs=(str(passage.x.name),),
        x_dtypes=(passage.dtype,),
        y=str(passage.y.name),
        y_dtype=passage.dtype,
        shape_of=shape_of,
        alike=(node.op_type, target, passage.dtype),
    )
    return Replacement(step, (passage.x,), passage.y, passage.absorbed)


def _axis(node: ir.Node) -> tuple[int]:
    return (node.attributes.get_int("axis", 1),)


def _target(node: ir.Node) -> tuple[int, ...] | None:
    """Return the constant shape that a Reshape names; None if it is not constant, or wants sizes of 0."""
    wanted = constant_array(node.inputs[1]) if len(node.inputs) > 1 else None
    if wanted is None or (node.attributes.get_int("allowzero", 0) != 0 and not wanted.all()):
        return None
    return tuple(int(size) for size in wanted)


def _flatten(axis: int) -> Callable[[tuple[int, ...]], tuple[int, ...]]:
    def shape_of(shape: tuple[int, ...]) -> tuple[int, ...]:
        if not -len(shape) <= axis <= len(shape):
            raise ValueError(f"at least {abs(axis)} axes")
        first = axis + len(shape) if axis < 0 else axis
        return math.prod(shape[:first]), math.prod(shape[first:])

    return shape_of


def _reshape(target: tuple[int, ...]) -> Callable[[tuple[int, ...]], tuple[int, ...]]:
    def shape_of(shape: tuple[int, ...]) -> tuple[int, ...]:
        kept = [axis for axis, size in enumerate(target) if size == 0]
        if kept and kept[-1] >= len(shape):
            raise ValueError(f"at least {kept[-1] + 1} axes")
        return tuple(shape[axis] if size == 0 else size for axis, size in enumerate(target))

    return shape_of
