"""Single-layer models with random 2:4 weights: what the layer benchmarks run, float32 and quantised."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from sparse_rt import sparsity

__all__ = ["DTYPES", "SUITES", "LayerShape", "build_layer", "layer_feeds", "load_suite"]

DTYPES = ("int8", "float32")
SUITES = ("gemm", "small_m", "resnet50_conv")
_OPSET = 18
_IR_VERSION = 9
_SHAPES = Path(__file__).parent / "shapes"


@dataclass(frozen=True)
class LayerShape:
    """One layer: a GEMM (kernel is None) or a square convolution.

    Attributes
    ----------
    name
        As in the data file, with m for a GEMM.
    m, n, k
        GEMM sizes; for a convolution m = batch x output pixels and k = channels x kernel x kernel.
    channels, size, kernel, stride
        Of a convolution: input channels, input height and width, kernel height and width, stride; padding kernel // 2.
    count
        How often the layer occurs in its network.
    """

    name: str
    m: int
    n: int
    k: int
    channels: int = 0
    size: int = 0
    kernel: int | None = None
    stride: int = 1
    count: int = 1


def load_suite(suite: str) -> list[LayerShape]:
    """Return the layers of ``shapes/<suite>.json``."""
    data = json.loads((_SHAPES / f"{suite}.json").read_text())
    if "m" in data:
        return [
            LayerShape(f"{layer['name']}_m{m}", m, layer["n"], layer["k"])
            for layer in data["layers"]
            for m in data["m"]
        ]
    return [_conv_shape(data["batch"], layer) for layer in data["layers"]]


def _conv_shape(batch: int, layer: dict[str, Any]) -> LayerShape:
    kernel, stride, size = layer["kernel"], layer["stride"], layer["size"]
    out = (size + 2 * (kernel // 2) - kernel) // stride + 1
    return LayerShape(
        layer["name"],
        m=batch * out * out,
        n=layer["out_channels"],
        k=layer["channels"] * kernel * kernel,
        channels=layer["channels"],
        size=size,
        kernel=kernel,
        stride=stride,
        count=layer["count"],
    )


def _weight(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float32]:
    """Return a random weight, output channels first, that holds 2:4 along its second axis."""
    weight = rng.standard_normal(shape, np.float32)
    return weight * sparsity.magnitude_mask(weight, sparsity.parse("2:4"))


def _quantised(weight: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return symmetric per-channel int8 values and their scales."""
    axes = tuple(range(1, weight.ndim))
    scale = (np.abs(weight).max(axis=axes) / 127).astype(np.float32)
    values = np.rint(weight / scale.reshape(-1, *[1] * len(axes)))
    return values.astype(np.int8), scale


def build_layer(shape: LayerShape, dtype: str, seed: int = 0) -> onnx.ModelProto:
    """Return a model of one layer, input ``x``, output ``y``.

    float32: Conv with bias, or MatMul. int8: the same between DequantizeLinear and QuantizeLinear, uint8 activations
    per tensor, int8 weights per channel, int32 bias, as onnxruntime's static quantiser writes it.
    """
    rng = np.random.default_rng(seed)
    if shape.kernel is None:
        weight = _weight((shape.n, shape.k), rng)
        x_shape, y_shape = [shape.m, shape.k], [shape.m, shape.n]
        attributes: dict[str, Any] = {}
    else:
        weight = _weight((shape.n, shape.channels, shape.kernel, shape.kernel), rng)
        out = round(shape.m**0.5)
        x_shape, y_shape = [1, shape.channels, shape.size, shape.size], [1, shape.n, out, out]
        attributes = {"pads": [shape.kernel // 2] * 4, "strides": [shape.stride] * 2}
    bias = rng.standard_normal(shape.n, np.float32)
    build = _float_layer if dtype == "float32" else _quantised_layer
    nodes, initializers = build(weight, bias, attributes)
    element = TensorProto.FLOAT if dtype == "float32" else TensorProto.UINT8
    graph = helper.make_graph(
        nodes,
        shape.name,
        [helper.make_tensor_value_info("x", element, x_shape)],
        [helper.make_tensor_value_info("y", element, y_shape)],
        initializers,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)


def _float_layer(
    weight: NDArray[np.float32], bias: NDArray[np.float32], attributes: dict[str, Any]
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    if weight.ndim == 2:
        tensors = [numpy_helper.from_array(np.ascontiguousarray(weight.T), "w")]
        return [helper.make_node("MatMul", ["x", "w"], ["y"], "layer")], tensors
    tensors = [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(bias, "b")]
    return [helper.make_node("Conv", ["x", "w", "b"], ["y"], "layer", **attributes)], tensors


def _quantised_layer(
    weight: NDArray[np.float32], bias: NDArray[np.float32], attributes: dict[str, Any]
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    values, scale = _quantised(weight)
    x_scale = np.float32(1 / 64)
    # Wide enough that few outputs saturate: a sum of k / 2 products of standard normals.
    y_scale = np.float32(weight[0].size ** 0.5 / 32)
    matmul = weight.ndim == 2
    arrays = {
        "w": np.ascontiguousarray(values.T) if matmul else values,
        "w_scale": scale,
        "w_zero_point": np.zeros(scale.size, np.int8),
        "x_scale": x_scale,
        "x_zero_point": np.uint8(128),
        "y_scale": y_scale,
        "y_zero_point": np.uint8(128),
    }
    node = helper.make_node
    nodes = [
        node("DequantizeLinear", ["x", "x_scale", "x_zero_point"], ["x_float"]),
        node("DequantizeLinear", ["w", "w_scale", "w_zero_point"], ["w_float"], axis=1 if matmul else 0),
    ]
    if matmul:
        nodes.append(node("MatMul", ["x_float", "w_float"], ["y_float"], "layer"))
    else:
        arrays["b"] = np.rint(bias / (x_scale * scale)).astype(np.int32)
        arrays["b_scale"] = x_scale * scale
        arrays["b_zero_point"] = np.zeros(scale.size, np.int32)
        nodes.append(node("DequantizeLinear", ["b", "b_scale", "b_zero_point"], ["b_float"], axis=0))
        nodes.append(node("Conv", ["x_float", "w_float", "b_float"], ["y_float"], "layer", **attributes))
    nodes.append(node("QuantizeLinear", ["y_float", "y_scale", "y_zero_point"], ["y"]))
    return nodes, [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()]


def layer_feeds(shape: LayerShape, dtype: str, seed: int = 1) -> dict[str, NDArray[Any]]:
    """Return random activations: standard normal, or uint8 over the whole range."""
    rng = np.random.default_rng(seed)
    x_shape = (shape.m, shape.k) if shape.kernel is None else (1, shape.channels, shape.size, shape.size)
    if dtype == "float32":
        return {"x": rng.standard_normal(x_shape, np.float32)}
    return {"x": rng.integers(0, 255, x_shape, np.uint8, endpoint=True)}
