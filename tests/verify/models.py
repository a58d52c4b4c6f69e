"""Small models for the tests of verify/."""

import numpy as np
import onnx
from onnx import numpy_helper

from tests.models.onnx_models import FLOAT, UINT8, info, model, node, normal, sparse, sparse_int8

__all__ = ["convolutions", "dynamic_chain", "dynamic_quantised", "left_product", "mutated", "quantised", "two_layers"]


def two_layers(rng):
    return model(
        [
            node("MatMul", ["x", "w1"], ["a"], name="first"),
            node("Relu", ["a"], ["b"]),
            node("Gemm", ["b", "w2", "b2"], ["y"], transB=1, name="second"),
        ],
        [info("x", "batch", 24)],
        [info("y", "batch", 8)],
        {"w1": sparse(rng, 16, 24).T.copy(), "w2": sparse(rng, 8, 16), "b2": normal(rng, 8)},
    )


def convolutions(rng):
    return model(
        [
            node("Conv", ["x", "w1", "b1"], ["a"], name="conv", auto_pad="SAME_UPPER", strides=[2, 2]),
            node("Relu", ["a"], ["b"]),
            node("ConvTranspose", ["b", "w2"], ["y"], name="transposed", strides=[2, 2], output_padding=[1, 1]),
        ],
        [info("x", "batch", 8, "height", "width")],
        [info("y", "batch", 6, None, None)],
        {
            "w1": sparse(rng, 12, 8, 3, 3),
            "b1": normal(rng, 12),
            "w2": sparse(rng, 6, 12, 3, 3).swapaxes(0, 1).copy(),
        },
    )


def left_product(rng):
    return model(
        [node("MatMul", ["w", "x"], ["y"], name="left")],
        [info("x", "batch", 20, 7)],
        [info("y", "batch", 12, 7)],
        {"w": sparse(rng, 12, 20)},
    )


def dynamic_quantised(rng):
    return model(
        [
            node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
            node("MatMulInteger", ["q", "w", "z"], ["acc"], name="integer"),
            node("Cast", ["acc"], ["f"], to=FLOAT),
            node("Mul", ["f", "s"], ["y"]),
        ],
        [info("x", "batch", 32)],
        [info("y", "batch", 16)],
        {"w": sparse_int8(rng, 16, 32).T.copy()},
    )


def dynamic_chain(rng):
    """As onnxruntime's quantize_dynamic writes it: the scale of each run times the weight's."""
    return model(
        [
            node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
            node("MatMulInteger", ["q", "w", "z"], ["acc"], name="integer"),
            node("Cast", ["acc"], ["f"], to=FLOAT),
            node("Mul", ["s", "ws"], ["scale"]),
            node("Mul", ["f", "scale"], ["m"]),
            node("Add", ["m", "b"], ["y"]),
        ],
        [info("x", "batch", 32)],
        [info("y", "batch", 16)],
        {
            "w": sparse_int8(rng, 16, 32).T.copy(),
            "ws": rng.uniform(0.01, 0.02, 16).astype(np.float32),
            "b": normal(rng, 16),
        },
    )


def quantised(rng, *, float_output):
    """QuantizeLinear -> Gemm -> (QuantizeLinear ->) y, symmetric weights for each channel."""
    scales = rng.uniform(0.001, 0.01, 16).astype(np.float32)
    nodes = [
        node("QuantizeLinear", ["x", "xs", "xz"], ["q"]),
        node("DequantizeLinear", ["q", "xs", "xz"], ["d"]),
        node("DequantizeLinear", ["w", "ws", "wz"], ["wd"], axis=0),
        node("Gemm", ["d", "wd"], ["g" if not float_output else "y"], transB=1, name="gemm"),
    ]
    if not float_output:
        nodes.append(node("QuantizeLinear", ["g", "ys", "yz"], ["y"]))
    constants = {
        "xs": np.float32(0.02),
        "xz": np.uint8(117),
        "w": sparse_int8(rng, 16, 32),
        "ws": scales,
        "wz": np.zeros(16, np.int8),
        "ys": np.float32(0.05),
        "yz": np.uint8(128),
    }
    output = info("y", "batch", 16, kind=FLOAT if float_output else UINT8)
    return model(nodes, [info("x", "batch", 32)], [output], constants)


def mutated(proto, name, value):
    """A copy with one nonzero element of the initializer `name` changed to `value(element)`."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    for tensor in copy.graph.initializer:
        if tensor.name == name:
            array = numpy_helper.to_array(tensor).copy()
            position = tuple(np.argwhere(array)[len(array) // 2])
            array[position] = value(array[position])
            tensor.CopyFrom(numpy_helper.from_array(array, name))
            return copy
    raise LookupError(name)
