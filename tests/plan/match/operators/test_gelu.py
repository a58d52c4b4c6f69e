"""Gelu in all its forms."""

import numpy as np
import pytest
from numba.core import config

from tests.models.onnx_models import info, model, node, normal
from tests.plan.match.operators.networks import check, check_block, layers, quantised_block

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="these operators are machine code")


@pytest.fixture
def rng():
    return np.random.default_rng(29)


def gelu_nodes(form):
    if form == "root":
        return [
            node("Div", ["a", "root"], ["d"]),
            node("Erf", ["d"], ["e"]),
            node("Add", ["e", "one"], ["p"]),
            node("Mul", ["a", "p"], ["g"]),
            node("Mul", ["g", "half"], ["y"]),
        ]
    if form == "inverse":
        return [
            node("Mul", ["inverse", "a"], ["d"]),
            node("Mul", ["a", "half"], ["h"]),
            node("Erf", ["d"], ["e"]),
            node("Add", ["one", "e"], ["p"]),
            node("Mul", ["h", "p"], ["y"]),
        ]
    return [node("Gelu", ["a"], ["y"], domain="com.microsoft")]


@pytest.mark.parametrize("form", ["root", "inverse", "operator"])
@pytest.mark.parametrize("rows", [1, 37])
def test_gelu(rng, form, rows):
    nodes, weights = layers(rng, "a")
    weights |= {name: np.float32(v) for name, v in {"root": 2**0.5, "inverse": 0.5**0.5, "one": 1, "half": 0.5}.items()}
    proto = model([*nodes, *gelu_nodes(form)], [info("x", "r", 8)], [info("y", "r", 8)], weights)
    check(proto, {"x": 3 * normal(rng, rows, 8)}, ["Gelu"])


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("form", ["root", "operator", "with bias"])
@pytest.mark.parametrize("read_elsewhere", [False, True])
def test_gelu_of_a_quantised_product(rng, dtype, biased, form, read_elsewhere):
    before = "a" if biased else "a_f"
    bias = [node("Add", ["a_f", "bias"], ["a"])] if biased else []
    with_bias = [node("BiasGelu", ["a", "beta"], ["y"], domain="com.microsoft")]
    gelu = with_bias if form == "with bias" else gelu_nodes(form)
    for one in gelu:
        one.input[:] = [before if name == "a" else name for name in one.input]
        one.output[:] = ["n" if name == "y" else name for name in one.output]
    proto = quantised_block(rng, dtype, [*bias, *gelu], ["y", before] if read_elsewhere else ["y"])
    # Two biases are one too many for the step.
    dequantises = read_elsewhere or (biased and form == "with bias")
    check_block(rng, proto, [*["DequantizeLinear"] * dequantises, "Gelu"])
