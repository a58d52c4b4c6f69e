"""How far two correct engines may lie apart.

One dot product of length k with a bias, in any order of summation, is off by at most gamma(k + 1) (|x|.|w| + |b|) with
gamma(j) = j u / (1 - j u), u = eps / 2 (Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition, section
3.1). Two engines may err in opposite directions: (k + 1) eps (|x|.|w| + |b|). :data:`C` = 2 doubles that for the few
roundings that are not sums: scales that are multiplied into weights beforehand, and the computation of the bound.
Clipping brings numbers only closer together.
"""

import math
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from sparse_rt import stock
from sparse_rt.graph.layers.layer import Layer

__all__ = [
    "C",
    "EPS",
    "NOISE_FACTOR",
    "elementwise_bound",
    "end_to_end_tolerance",
    "noise_tolerance",
    "reduction_length",
]

#: The factor c of |y - y_ref| <= c (k + 1) eps (|X| |W|^T + |b|).
C = 2.0
EPS = float(np.finfo(np.float32).eps)

_MAX_TOLERANCE = 2.0**-6
_MAX_NOISE_TOLERANCE = 2.0**-3
_MIN_NOISE_TOLERANCE = 2.0**-8
NOISE_FACTOR = 2.0
"""How far an answer may be from the reference, measured by how far the reference is from itself."""
_CONVOLUTIONS = {"conv": "Conv", "conv_transpose": "ConvTranspose"}
_CONVOLUTION_ATTRIBUTES = ("strides", "dilations", "pads", "auto_pad", "kernel_shape", "output_padding", "output_shape")
_OPSET = 17
_IR_VERSION = 8


def reduction_length(layer: Layer) -> int:
    """Return k: input channels x kernel positions."""
    return math.prod(layer.shape[1:])


def elementwise_bound(
    layer: Layer, x: NDArray[np.float32], scale: NDArray[Any], bias: NDArray[Any]
) -> NDArray[np.float64]:
    """Return C (k + 1) eps (|X| |W|^T + |b|), of the shape of the layer's output.

    |X| |W|^T is computed by the dense operator, in onnxruntime.

    Parameters
    ----------
    layer
        Whose dense weight is taken.
    x
        The activation in real units.
    scale
        Of the weight: () or (n,).
    bias
        (n,) in real units.
    """
    weight = np.abs(layer.dense_weight().astype(np.float32))
    weight = weight * np.abs(scale).astype(np.float32).reshape(-1, *[1] * (weight.ndim - 1))
    magnitude = _product(layer, np.abs(x), weight).astype(np.float64)
    magnitude += np.abs(bias.astype(np.float64)).reshape(_channel_shape(layer, magnitude.ndim))
    # Products below the smallest normal number lose bits, or all of them, one by one.
    underflow = float(np.finfo(np.float32).tiny)
    return (reduction_length(layer) + 1) * (C * EPS * magnitude + underflow)


def _channel_shape(layer: Layer, rank: int) -> tuple[int, ...]:
    """Return the shape that lets (n,) broadcast along the output's channel axis."""
    behind = 0
    if layer.kind != "matmul":
        behind = rank - 2
    elif layer.constant_side == "left" and rank > 1:
        behind = 1
    return (-1, *[1] * behind)


def _product(layer: Layer, x: NDArray[np.float32], weight: NDArray[np.float32]) -> NDArray[np.float32]:
    attributes: dict[str, Any] = {}
    if layer.kind == "matmul":
        operator, names = "MatMul", ["x", "w"]
        if layer.constant_side == "left":
            names.reverse()
        else:
            weight = weight.T
    else:
        operator, names = _CONVOLUTIONS[layer.kind], ["x", "w"]
        attributes = {
            name: layer.attributes[name]
            for name in _CONVOLUTION_ATTRIBUTES
            if layer.attributes.get(name) not in (None, ())
        }
        if attributes.get("auto_pad", "NOTSET") != "NOTSET":
            attributes.pop("pads", None)
        if layer.kind == "conv_transpose":
            weight = weight.swapaxes(0, 1)
    node = onnx.helper.make_node(operator, names, ["y"], **attributes)
    inputs = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, array.shape)
        for name, array in (("x", x), ("w", weight))
    ]
    graph = onnx.helper.make_graph([node], "absolute_product", inputs, [onnx.ValueInfoProto(name="y")])
    opsets = [onnx.helper.make_opsetid("", _OPSET)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)
    session = stock.open_session(model, where=f"layer '{layer.name}', its bound")
    feeds = {"x": x, "w": np.ascontiguousarray(weight)}
    product: NDArray[np.float32] = stock.run(session, None, feeds)[0]
    return product


def end_to_end_tolerance(lengths: list[int]) -> float:
    """Return the tolerance at the outputs of a float model, relative to the largest |y_ref| of each.

    Each layer adds at most C (k + 1) eps relative to its own magnitudes, so their sum is taken, which presumes that the
    layers between neither amplify nor damp. It is at most 2^-6, so that a wrong answer never passes because the model
    is deep.

    Parameters
    ----------
    lengths
        k of every sparse layer.
    """
    # One more term: onnxruntime itself may sum the rest of the model in another order once it is cut into parts.
    return min(_MAX_TOLERANCE, C * EPS * (1024 + sum(length + 1 for length in lengths)))


def noise_tolerance(noise: float) -> float:
    """Return the tolerance at the float outputs of a model that quantises activations, rms relative to rms.

    A difference in the last bit of a float part flips the rounding of an activation now and then; a flip changes what
    later layers round, so that from some depth on two runs carry independent rounding noise, however exact each layer
    is. How much noise that is, the reference itself tells: onnxruntime with and without its graph optimisations are two
    valid executions of one file. Twice their distance is allowed; at least 2^-8, one step of 255, for the model whose
    two executions happen to agree; at most 1/8. The proof lies with the layers, each on its own.

    Parameters
    ----------
    noise
        rms of the difference of both executions, relative to the rms of the first.
    """
    return min(_MAX_NOISE_TOLERANCE, max(_MIN_NOISE_TOLERANCE, NOISE_FACTOR * noise))
