"""Dense layers between sparse ones, on kernels of ours."""

import numpy as np
import pytest
from numba.core import config
from sparse_rt_kernels.cpu import isa

from tests.models.onnx_models import info, model, node, normal, sparse
from tests.plan.match.operators.networks import KINDS, check, quantised_model

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="these operators are machine code")


@pytest.fixture
def rng():
    return np.random.default_rng(29)


@pytest.mark.parametrize("form", ["float", "u8", "s8"])
@pytest.mark.parametrize("stride", [1, 2])
def test_depthwise_convolution(rng, form, stride):
    attributes = {"group": 8, "strides": [stride, stride], "pads": [1, 1, 1, 1]}
    if form == "float":
        weights = {"w": sparse(rng, 8, 8, 1, 1), "d": normal(rng, 8, 1, 3, 3), "c": normal(rng, 8)}
        nodes = [
            node("Conv", ["x", "w"], ["a"]),
            node("Conv", ["a", "d", "c"], ["e"], **attributes),
            node("Relu", ["e"], ["f"]),
            node("Conv", ["f", "w"], ["y"]),
        ]
        proto = model(nodes, [info("x", "b", 8, "h", "w")], [info("y", "b", 8, "p", "q")], weights)
        check(proto, {"x": normal(rng, 2, 8, 13, 9)}, ["Conv"], threads=2)
        return
    dtype = np.uint8 if form == "u8" else np.int8
    values = {
        "d": rng.integers(-127, 128, (8, 1, 3, 3)).astype(np.int8),
        "d_s": rng.uniform(0.002, 0.01, 8).astype(np.float32),
        "d_z": np.zeros(8, np.int8),
        "y_s": np.float32(0.05),
        "y_z": np.array(np.iinfo(dtype).min + 90, dtype),
    }
    nodes = [
        node("DequantizeLinear", ["d", "d_s", "d_z"], ["d_f"], axis=0),
        node("Conv", ["a_d", "d_f"], ["e"], **attributes),
        node("QuantizeLinear", ["e", "y_s", "y_z"], ["y"]),
    ]
    outputs = [info("y", "b", 8, "p", "q", kind=KINDS[dtype])]
    proto = quantised_model(rng, dtype, ["a"], nodes, values, outputs)
    check(proto, {"x": normal(rng, 2, 8, 11, 14)}, ["QuantizeLinear", "Conv"], threads=2)


@pytest.mark.skipif("avx2" not in isa.supported_tiers(), reason="dense kernels need AVX2")
@pytest.mark.parametrize("form", ["float", "u8", "s8"])
def test_dense_stem(rng, form):
    """A convolution of 3 channels, which 2:4 does not take, before a sparse layer."""
    attributes = {"strides": [2, 2], "pads": [3, 3, 3, 3]}
    stem = rng.standard_normal((16, 3, 7, 7)).astype(np.float32)
    if form == "float":
        nodes = [
            node("Conv", ["x", "d", "c"], ["a"], **attributes),
            node("Relu", ["a"], ["r"]),
            node("Conv", ["r", "w"], ["y"]),
        ]
        weights = {"d": stem, "c": normal(rng, 16), "w": sparse(rng, 8, 16, 1, 1)}
        proto = model(nodes, [info("x", "b", 3, "h", "w")], [info("y", "b", 8, "p", "q")], weights)
        for size in [(33, 35), (9, 11)]:
            check(proto, {"x": normal(rng, 2, 3, *size)}, ["Conv"], threads=2)
        return
    dtype = np.uint8 if form == "u8" else np.int8
    low = np.iinfo(dtype).min
    weights = {
        "x_s": np.float32(0.03),
        "x_z": np.array(low + 117, dtype),
        "d": (stem * 40).clip(-127, 127).astype(np.int8),
        "d_s": np.float32(0.002),
        "a_s": np.float32(0.05),
        "a_z": np.array(low + 120, dtype),
        "w": (sparse(rng, 16, 16, 1, 1) * 200).clip(-127, 127).astype(np.int8),
        "w_s": np.float32(0.01),
        "y_s": np.float32(0.05),
        "y_z": np.array(low + 128, dtype),
    }
    nodes = [
        node("QuantizeLinear", ["x", "x_s", "x_z"], ["x_q"]),
        node("DequantizeLinear", ["x_q", "x_s", "x_z"], ["x_f"]),
        node("DequantizeLinear", ["d", "d_s"], ["d_f"]),
        node("Conv", ["x_f", "d_f"], ["a"], **attributes),
        node("QuantizeLinear", ["a", "a_s", "a_z"], ["a_q"]),
        node("DequantizeLinear", ["a_q", "a_s", "a_z"], ["a_f"]),
        node("DequantizeLinear", ["w", "w_s"], ["w_f"]),
        node("Conv", ["a_f", "w_f"], ["e"]),
        node("QuantizeLinear", ["e", "y_s", "y_z"], ["y"]),
    ]
    proto = model(nodes, [info("x", "b", 3, "h", "w")], [info("y", "b", 16, "p", "q", kind=KINDS[dtype])], weights)
    # onnxruntime computes the int8 one in floats, which round ties of the product of scales another way.
    steps = 0 if form == "u8" else 1
    check(proto, {"x": normal(rng, 2, 3, 41, 37)}, ["QuantizeLinear", "Conv"], threads=2, steps=steps)
