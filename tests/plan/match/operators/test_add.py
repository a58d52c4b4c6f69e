"""Add between sparse layers: the same results as stock onnxruntime, and no islands."""

import numpy as np
import pytest
from numba.core import config

from tests.models.onnx_models import info, model, node, normal
from tests.plan.match.operators.networks import KINDS, check, layers, quantised_model

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="these operators are machine code")


@pytest.fixture
def rng():
    return np.random.default_rng(29)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("after", [[], ["Relu"], ["Clip"]])
@pytest.mark.parametrize("rows", [1, 3, 517])
def test_float_add(rng, rows, after, threads):
    nodes, weights = layers(rng, "a", "b")
    nodes.append(node("Add", ["a", "b"], ["s"]))
    if after:
        weights |= {"low": np.float32(-0.2), "high": np.float32(0.4)}
        nodes.append(node(after[0], ["s", "low", "high"] if after == ["Clip"] else ["s"], ["y"]))
    proto = model(
        nodes, [info("x", "r", 8)], [info(name, "r", 8) for name in ("y" if after else "s", "a", "b")], weights
    )
    # Layers whose results are outputs do not add them themselves.
    check(proto, {"x": normal(rng, rows, 8)}, ["Add"], threads=threads)


def test_add_broadcasts(rng):
    nodes, weights = layers(rng, "a")
    nodes.append(node("Add", ["a", "u"], ["y"]))
    proto = model(nodes, [info("x", "r", 8), info("u", "p", "q")], [info("y", "r", 8), info("a", "r", 8)], weights)
    for shape in [(1, 8), (5, 1), (1, 1), (5, 8)]:
        check(proto, {"x": normal(rng, 5, 8), "u": normal(rng, *shape)}, ["Add"])


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (5, 7), (33, 17)])
def test_quantised_add(rng, dtype, relu, size):
    nodes = [node("Add", ["a_d", "b_d"], ["s"])]
    if relu:
        nodes.append(node("Relu", ["s"], ["r"]))
    nodes.append(node("QuantizeLinear", ["r" if relu else "s", "y_s", "y_z"], ["y"]))
    values = {"y_s": np.float32(0.05), "y_z": np.array(np.iinfo(dtype).min + 90, dtype)}
    outputs = [info("y", "b", 8, "h", "w", kind=KINDS[dtype])]
    proto = quantised_model(rng, dtype, ["a", "b"], nodes, values, outputs)
    check(proto, {"x": normal(rng, 2, 8, *size)}, ["QuantizeLinear", "Add"], steps=1)
