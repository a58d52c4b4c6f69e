"""Fold what is computed from constants alone, so that weights, biases and bounds are seen where layers look for them.

onnxscript's optimizer folds; this file says what is worth it. A folded array is never larger than what it is made of,
beyond :data:`SMALL` elements, and never a dequantised or decoded weight: those stay operators. Nothing is folded, and
onnxscript is not even imported, in a model without such operators, or without a layer.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

from sparse_rt.graph.layers.find import is_layer
from sparse_rt.graph.layers.weights import constant_array, constant_tensor
from sparse_rt.graph.mapped import forget

__all__ = ["SMALL", "fold"]

SMALL = 1 << 14
"""Elements up to which the size of what is folded does not matter."""

_FLOATS = (ir.DataType.FLOAT16, ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.BFLOAT16)
_ELEMENTWISE = (
    *("Abs", "Add", "And", "Ceil", "Clip", "Cos", "Div", "Equal", "Exp", "Floor", "Greater", "Less", "Log", "Max"),
    *("Min", "Mod", "Mul", "Neg", "Not", "Or", "Pow", "Reciprocal", "Sign", "Sin", "Sqrt", "Sub", "Where"),
)
_REDUCTIONS = ("ReduceL1", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum")
_VIEWS = ("Flatten", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze")
_CONVERSIONS = ("Cast", "CastLike", "QuantizeLinear")
_NO_LIMIT = 2**62  # should_fold has its own
_SHAPES = ("Shape", "Size")
_PASSED_THROUGH = ("Dropout", "Identity")  # between a layer and its activation they would hide the one from the other


def fold(model: ir.Model) -> ir.Model:
    """Return the model with constant operators folded.

    Parameters
    ----------
    model
        Changed, or not used again, whichever is returned.
    """
    if not any(map(is_layer, model.graph)) or not any(_concerns(node) for node in model.graph):
        return model
    from onnxscript import optimizer

    folded = model.clone()
    # The bodies of local functions are not looked into: those of compressed layers must stay as they are.
    functions = dict(folded.functions)
    folded.functions.clear()
    shapes = _forget_sizes(folded.graph)
    try:
        _fold_splits(folded.graph)
        optimizer.fold_constants(folded, should_fold=should_fold, output_size_limit=_NO_LIMIT)
    except Exception:  # a graph that the optimizer does not understand is still one that can be run
        return model
    _remove_bypassed(folded.graph)
    _remember_sizes(folded.graph, shapes)
    folded.functions.update(functions)
    forget(model)
    return folded


def _fold_splits(graph: ir.Graph) -> None:
    """Replace each Split of a constant into stated parts by those parts, views of it; the optimizer leaves them.

    PyTorch exports the packed projections of an attention with different queries and keys like this.
    """
    for node in list(graph):
        if node.op_type != "Split" or node.domain != "" or len(node.inputs) != 2:
            continue
        array, sizes = (constant_array(value) for value in node.inputs)
        axis = node.attributes.get_int("axis", 0)
        if array is None or sizes is None or sizes.shape != (len(node.outputs),) or min(sizes) < 0:
            continue
        if not -array.ndim <= axis < array.ndim or sizes.sum() != array.shape[axis]:
            continue
        parts = np.split(array, np.cumsum(sizes)[:-1], axis)
        values = [_initializer(graph, str(old.name), part) for old, part in zip(node.outputs, parts, strict=True)]
        ir.convenience.replace_nodes_and_values(graph, node, [node], [], node.outputs, values)


def _initializer(graph: ir.Graph, name: str, array: np.ndarray[Any, Any]) -> ir.Value:
    tensor = ir.tensor(array, name=name)
    value = ir.Value(name=name, const_value=tensor, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype))
    graph.register_initializer(value)
    return value


def _remove_bypassed(graph: ir.Graph) -> None:
    """Remove the Identity nodes that nobody reads any more: they still count as readers of what they read."""
    for node in reversed(list(graph)):
        if node.op_type == "Identity" and not node.outputs[0].uses() and not node.outputs[0].is_graph_output():
            graph.remove(node, safe=True)


def _forget_sizes(graph: ir.Graph) -> dict[str | None, ir.Shape]:
    """Keep only the ranks of what nodes compute, and return the shapes by name.

    The optimizer believes the sizes that a model notes beside its values, but only those of the inputs are checked in
    every run: the others may be left from before someone changed the batch.
    """
    shapes: dict[str | None, ir.Shape] = {}
    for node in graph:
        for value in node.outputs:
            if value.shape is not None and value.const_value is None:
                shapes[value.name] = value.shape
                value.shape = ir.Shape([None] * len(value.shape))
    return shapes


def _remember_sizes(graph: ir.Graph, shapes: Mapping[str | None, ir.Shape]) -> None:
    for node in graph:
        for value in node.outputs:
            if value.name in shapes:
                value.shape = shapes[value.name]


def _concerns(node: ir.Node) -> bool:
    """Return whether the optimizer may find something to do at this node."""
    if node.domain != "":
        return False
    if node.op_type in _PASSED_THROUGH:
        return True
    if not node.inputs or node.op_type not in (*_SIZES, "Split"):
        return False
    return all(value is None or constant_tensor(value) is not None for value in node.inputs)


def should_fold(node: ir.Node) -> bool:
    """Return whether a node of constants is worth folding.

    Parameters
    ----------
    node
        All of whose inputs have a ``const_value``.
    """
    for value in node.inputs:
        if value is not None:
            # There the optimizer notes all that a value was ever folded from: n names for the nth node of a chain.
            value.meta.clear()
    size_of = _SIZES.get(node.op_type)
    tensors = [value.const_value for value in node.inputs if value is not None and value.const_value is not None]
    if node.domain != "" or size_of is None or not tensors or len(node.outputs) != 1:
        return False
    largest = max(tensor.size for tensor in tensors)
    result = size_of(node, tensors)
    whole = sum(tensor.size for tensor in tensors) if node.op_type == "Concat" else largest
    if result is None or result > max(SMALL, whole):
        return False
    if largest <= SMALL:
        return True
    if node.op_type == "Transpose":
        # A layer sees through it; folding would keep two copies of a weight with several readers.
        return any(reader.op_type in _SIZES for reader in node.outputs[0].consumers())
    if node.op_type == "QuantizeLinear":
        return _is_8_bit(node)
    # Integers are a quantised weight on its way to floats.
    return node.op_type in (*_VIEWS, "Concat") or tensors[0].dtype in _FLOATS


def _is_8_bit(node: ir.Node) -> bool:
    if len(node.inputs) > 2 and node.inputs[2] is not None and node.inputs[2].const_value is not None:
        return node.inputs[2].const_value.dtype in (ir.DataType.INT8, ir.DataType.UINT8)
    return node.attributes.get_int("output_dtype", ir.DataType.UINT8) in (ir.DataType.INT8, ir.DataType.UINT8)


_Sizing = Callable[[ir.Node, list[ir.TensorProtocol]], int | None]


def _broadcast(node: ir.Node, tensors: list[ir.TensorProtocol]) -> int | None:
    try:
        return math.prod(np.broadcast_shapes(*(tuple(tensor.shape.numpy()) for tensor in tensors)))
    except ValueError:
        return None


def _first(node: ir.Node, tensors: list[ir.TensorProtocol]) -> int | None:
    return tensors[0].size


def _total(node: ir.Node, tensors: list[ir.TensorProtocol]) -> int | None:
    return sum(tensor.size for tensor in tensors)


def _gathered(node: ir.Node, tensors: list[ir.TensorProtocol]) -> int | None:
    shape, axis = tensors[0].shape.numpy(), node.attributes.get_int("axis", 0)
    if len(tensors) != 2 or not -len(shape) <= axis < len(shape):
        return None
    return tensors[1].size * (tensors[0].size // max(1, shape[axis]))


def _named(node: ir.Node, tensors: list[ir.TensorProtocol]) -> int | None:
    """Return the size that the last input, a shape, names."""
    if tensors[-1].size > 8 or tensors[-1].dtype != ir.DataType.INT64:
        return None
    return math.prod(max(1, int(size)) for size in tensors[-1].numpy().reshape(-1)) * math.prod(
        tensor.size for tensor in tensors[:-1]
    )


def _little(node: ir.Node, tensors: list[ir.TensorProtocol]) -> int | None:
    return 1


def _table(groups: Iterable[tuple[Iterable[str], _Sizing]]) -> Mapping[str, _Sizing]:
    return {op_type: sizing for op_types, sizing in groups for op_type in op_types}


_SIZES = _table(
    (
        (_ELEMENTWISE, _broadcast),
        (_REDUCTIONS, _first),
        (_VIEWS, _first),
        (_CONVERSIONS, _first),
        (_SHAPES, _little),
        (("Concat",), _total),
        (("Gather",), _gathered),
        (("ConstantOfShape", "Expand"), _named),
    )
)
"""How many elements a node of constants gives, at most; operators that are not here are not folded."""
