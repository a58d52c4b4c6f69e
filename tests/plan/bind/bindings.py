"""Segments of many shapes."""

import numpy as np

from sparse_rt import InferenceSession, SessionOptions
from sparse_rt.plan.bind.segment import Segment
from tests.models.onnx_models import info, model, node, normal, sparse

LAYERS = 6


def perceptron(rng, size=24, layers=LAYERS):
    """Layers of one size, each with a weight and a bias of its own, every second one clipped, and normalisations."""
    nodes, values, x = [], {}, "x"
    for i in range(layers):
        nodes += [node("MatMul", [x, f"w{i}"], [f"m{i}"]), node("Add", [f"m{i}", f"b{i}"], [f"a{i}"])]
        values |= {f"w{i}": sparse(rng, size, size).T.copy(), f"b{i}": normal(rng, size)}
        values |= {f"g{i}": normal(rng, size), f"h{i}": normal(rng, size)}
        x = f"a{i}"
        if i % 2:
            nodes.append(node("Relu", [x], [f"r{i}"]))
            x = f"r{i}"
        nodes.append(node("LayerNormalization", [x, f"g{i}", f"h{i}"], [f"n{i}"]))
        x = f"n{i}"
    return model(nodes, [info("x", "rows", size)], [info(x, "rows", size)], values)


def convolutional(rng, kernel, channels=16, layers=LAYERS):
    nodes, values, x = [], {}, "x"
    for i in range(layers):
        nodes.append(node("Conv", [x, f"w{i}", f"b{i}"], [f"y{i}"], kernel_shape=[kernel] * 2, pads=[kernel // 2] * 4))
        values |= {f"w{i}": sparse(rng, channels, channels, kernel, kernel), f"b{i}": normal(rng, channels)}
        x = f"y{i}"
    shape = ("n", channels, "h", "w")
    return model(nodes, [info("x", *shape)], [info(x, *shape)], values)


def quantised(rng, kernel, channels=32, layers=LAYERS):
    """QDQ convolutions, or products for a kernel of 0, each with a weight and scale of its own."""
    nodes, x = [node("QuantizeLinear", ["x", "s", "z"], ["q"])], "q"
    values = {"s": np.float32(0.05), "z": np.uint8(110), "wz": np.int8(0)}
    for i in range(layers):
        shape = (channels, channels, kernel, kernel) if kernel else (channels, channels)
        weight = np.clip(np.round(sparse(rng, *shape) * 90), -127, 127).astype(np.int8)
        values |= {f"w{i}": weight if kernel else weight.T.copy(), f"t{i}": np.float32(rng.uniform(0.005, 0.02))}
        nodes += [
            node("DequantizeLinear", [x, "s", "z"], [f"d{i}"]),
            node("DequantizeLinear", [f"w{i}", f"t{i}", "wz"], [f"v{i}"]),
            node("Conv", [f"d{i}", f"v{i}"], [f"y{i}"], kernel_shape=[kernel] * 2, pads=[kernel // 2] * 4)
            if kernel
            else node("MatMul", [f"d{i}", f"v{i}"], [f"y{i}"]),
            node("QuantizeLinear", [f"y{i}", "s", "z"], [f"q{i}"]),
        ]
        x = f"q{i}"
    nodes.append(node("DequantizeLinear", [x, "s", "z"], ["y"]))
    shape = ("n", channels, "h", "w") if kernel else ("n", channels)
    return model(nodes, [info("x", *shape)], [info("y", *shape)], values)


MODELS = {
    "products": (perceptron, [(5, 24), (40, 24), (1, 24), (0, 24), (17, 24), (5, 24), (70, 24)]),
    "1x1": (lambda rng: convolutional(rng, 1), [(1, 16, 8, 8), (2, 16, 7, 5), (1, 16, 1, 3), (1, 16, 8, 8)]),
    "3x3": (lambda rng: convolutional(rng, 3), [(1, 16, 8, 8), (2, 16, 7, 5), (1, 16, 1, 3), (3, 16, 20, 9)]),
    "int8 products": (lambda rng: quantised(rng, 0), [(5, 32), (64, 32), (1, 32), (0, 32), (33, 32)]),
    "int8 1x1": (lambda rng: quantised(rng, 1), [(1, 32, 8, 8), (2, 32, 7, 7), (1, 32, 3, 5), (2, 32, 7, 7)]),
    "int8 3x3": (lambda rng: quantised(rng, 3), [(1, 32, 8, 8), (2, 32, 7, 7), (1, 32, 3, 5), (2, 32, 7, 7)]),
}


def session_of(proto, threads=1, tier=None):
    options = SessionOptions(intra_op_num_threads=threads, tuning="sparse")
    options.kernel_tier = tier
    return InferenceSession(proto, options)


def segments(session):
    return [part for part in session.plan.parts if isinstance(part, Segment)]
