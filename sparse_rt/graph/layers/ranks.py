"""How many axes each value of a graph has, from what every run is held to: the inputs' declarations and the operators.

What a model notes beside its inner values is not believed: onnxruntime only warns where such a note is wrong.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np
import onnx_ir as ir

from sparse_rt.graph.layers.layer import Layer
from sparse_rt.graph.layers.weights import constant_array, constant_tensor

__all__ = ["find_ranks"]

_MATRIX_AXES: Final = 2
_Ranks = Mapping[ir.Value, int]
_Rule = Callable[[ir.Node, _Ranks], int | None]


def find_ranks(graph: ir.Graph, layers: Sequence[Layer] = ()) -> dict[ir.Value, int]:
    """Return the number of axes of each value of `graph` of which it is certain.

    Parameters
    ----------
    graph
        In topological order.
    layers
        Those of the graph; compressed ones are known by nothing else.
    """
    ranks: dict[ir.Value, int] = {}
    for value in (*graph.inputs, *graph.initializers.values()):
        if value.shape is not None:
            ranks[value] = len(value.shape)
        elif value.const_value is not None:
            ranks[value] = len(value.const_value.shape)
    of_layers = {layer.node: layer for layer in layers}
    for node in graph:
        layer = of_layers.get(node)
        rule = _RULES.get(node.op_type) if node.domain in ("", "com.microsoft") else None
        found = _layer_rank(layer, ranks) if layer is not None else None
        if found is None and rule is not None:
            found = rule(node, ranks)
        if found is None:
            continue
        ranks[node.outputs[0]] = found
        for other in node.outputs[1:]:
            if node.op_type in _OF_EQUAL_OUTPUTS:
                ranks[other] = found
    return ranks


def _layer_rank(layer: Layer, ranks: _Ranks) -> int | None:
    """Return the axes of a layer's output. A constant matrix leaves a product with as many as x has, a vector, too."""
    if layer.kind != "matmul":
        return len(layer.shape) or ranks.get(layer.x)
    if layer.op_type in ("Gemm", "QGemm", "FusedGemm"):
        return 2
    return ranks.get(layer.x) if len(layer.shape) == _MATRIX_AXES else None


def _of(node: ir.Node, index: int, ranks: _Ranks) -> int | None:
    value = node.inputs[index] if index < len(node.inputs) else None
    return None if value is None else ranks.get(value)


def _same(node: ir.Node, ranks: _Ranks) -> int | None:
    return _of(node, 0, ranks)


def _any(node: ir.Node, ranks: _Ranks) -> int | None:
    """All inputs have as many axes."""
    return next((ranks[value] for value in node.inputs if value is not None and value in ranks), None)


def _broadcast(node: ir.Node, ranks: _Ranks) -> int | None:
    found = [ranks.get(value) if value is not None else 0 for value in node.inputs]
    known = [rank for rank in found if rank is not None]
    return max(known) if known and len(known) == len(found) else None


def _product(first: int, second: int) -> _Rule:
    def rank(node: ir.Node, ranks: _Ranks) -> int | None:
        a, b = _of(node, first, ranks), _of(node, second, ranks)
        if a is None or b is None:
            return None
        # A vector's axis goes into the sum.
        return max(a, b, 2) - (a == 1) - (b == 1)

    return rank


def _fixed(rank: int) -> _Rule:
    return lambda node, ranks: rank


def _convolution(node: ir.Node, ranks: _Ranks) -> int | None:
    return _any(node, ranks) if node.op_type in ("Conv", "ConvTranspose", "FusedConv") else _of(node, 0, ranks)


def _constant(node: ir.Node, ranks: _Ranks) -> int | None:
    tensor = constant_tensor(node.outputs[0])
    return None if tensor is None else len(tensor.shape)


def _transpose(node: ir.Node, ranks: _Ranks) -> int | None:
    perm = node.attributes.get("perm")
    return _of(node, 0, ranks) if perm is None else len(perm.as_ints())


def _integers(node: ir.Node, index: int, name: str) -> list[int] | None:
    """Return constant integers that are an input, or were an attribute once; None where neither is there."""
    attribute = node.attributes.get(name)
    if attribute is not None:
        return list(attribute.as_ints())
    array = constant_array(node.inputs[index]) if index < len(node.inputs) else None
    return None if array is None else [int(each) for each in np.ravel(array)]


def _reshape(node: ir.Node, ranks: _Ranks) -> int | None:
    target = _integers(node, 1, "shape")
    return None if target is None else len(target)


def _expand(node: ir.Node, ranks: _Ranks) -> int | None:
    target, rank = _integers(node, 1, "shape"), _of(node, 0, ranks)
    return None if target is None or rank is None else max(len(target), rank)


def _unsqueeze(node: ir.Node, ranks: _Ranks) -> int | None:
    axes, rank = _integers(node, 1, "axes"), _of(node, 0, ranks)
    return None if axes is None or rank is None else rank + len(axes)


def _squeeze(node: ir.Node, ranks: _Ranks) -> int | None:
    axes, rank = _integers(node, 1, "axes"), _of(node, 0, ranks)
    return None if not axes or rank is None else rank - len(axes)


def _reduced(node: ir.Node, ranks: _Ranks) -> int | None:
    rank = _of(node, 0, ranks)
    if rank is None or node.attributes.get_int("keepdims", 1) != 0:
        return rank
    if node.op_type in ("ArgMax", "ArgMin"):
        return rank - 1
    axes = _integers(node, 1, "axes")
    return None if not axes else rank - len(axes)


def _gather(node: ir.Node, ranks: _Ranks) -> int | None:
    data, indices = _of(node, 0, ranks), _of(node, 1, ranks)
    return None if data is None or indices is None else data + indices - 1


_SAME: Final = (
    *("Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "AveragePool", "BatchNormalization", "BiasGelu"),
    *("Cast", "CastLike", "Ceil", "Celu", "Clip", "Cos", "Cosh", "CumSum", "DequantizeLinear", "Dropout"),
    *("DynamicQuantizeLinear", "Elu", "Erf", "Exp", "FastGelu", "Floor", "Gelu", "GlobalAveragePool", "GlobalLpPool"),
    *("GlobalMaxPool", "GroupNormalization", "HardSigmoid", "HardSwish", "Hardmax", "Identity"),
    *("InstanceNormalization", "IsInf", "IsNaN", "LRN", "LayerNormalization", "LeakyRelu", "Log", "LogSoftmax"),
    *("LpNormalization", "LpPool", "MaxPool", "Mish", "Neg", "Not", "Pad", "QLinearSigmoid", "QLinearLeakyRelu"),
    *("QuantizeLinear", "QuickGelu", "RMSNormalization", "Reciprocal", "Relu", "Resize", "Round", "Selu", "Shrink"),
    *("Sigmoid", "Sign", "SimplifiedLayerNormalization", "Sin", "Sinh", "SkipLayerNormalization", "Slice", "Softmax"),
    *("Softplus", "Softsign", "Split", "Sqrt", "Swish", "Tan", "Tanh", "ThresholdedRelu", "Tile", "TopK", "Trilu"),
    "Upsample",
)
_BROADCAST: Final = (
    *("Add", "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Mean", "Min", "Mod"),
    *("Mul", "Or", "Pow", "Sub", "Sum", "Where", "Xor"),
)
_REDUCED: Final = (
    *("ArgMax", "ArgMin", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean"),
    *("ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare"),
)
_CONVOLUTIONS: Final = ("Conv", "ConvInteger", "ConvTranspose", "FusedConv", "QLinearConv")
#: Whose further outputs have as many axes as the first.
_OF_EQUAL_OUTPUTS: Final = ("Split", "TopK")
_RULES: Final[Mapping[str, _Rule]] = {
    **dict.fromkeys(_SAME, _same),
    **dict.fromkeys(_BROADCAST, _broadcast),
    **dict.fromkeys(_REDUCED, _reduced),
    **dict.fromkeys(_CONVOLUTIONS, _convolution),
    "Concat": _any,
    "Constant": _constant,
    "Expand": _expand,
    "Flatten": _fixed(2),
    "FusedGemm": _fixed(2),
    "FusedMatMul": _product(0, 1),
    "Gather": _gather,
    "Gemm": _fixed(2),
    "MatMul": _product(0, 1),
    "MatMulInteger": _product(0, 1),
    "PRelu": _same,
    "QGemm": _fixed(2),
    "QLinearMatMul": _product(0, 3),
    "Reshape": _reshape,
    "Shape": _fixed(1),
    "Size": _fixed(0),
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
