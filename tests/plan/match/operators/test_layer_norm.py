"""LayerNormalization, with the residual before it."""

import numpy as np
import pytest
from numba.core import config

from tests.models.onnx_models import info, model, node, normal
from tests.plan.match.operators.networks import check, check_block, layers, quantised_block

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="these operators are machine code")


@pytest.fixture
def rng():
    return np.random.default_rng(29)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("shape", [(1, 8), (3, 5, 8)])
def test_layer_norm(rng, residual, shape):
    nodes, weights = layers(rng, "a")
    weights |= {"g": normal(rng, 8), "b": normal(rng, 8)}
    if residual:
        nodes.append(node("Add", ["x", "a"], ["s"]))
    nodes.append(node("LayerNormalization", ["s" if residual else "a", "g", "b"], ["y"], epsilon=1e-4))
    axes = [None] * len(shape)
    proto = model(nodes, [info("x", *axes)], [info("y", *axes)], weights)
    check(proto, {"x": normal(rng, *shape)}, ["LayerNormalization"], tolerance=1e-4)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("residual", ["float32", "none"])
def test_normalisation_of_bytes_beside_float32(rng, dtype, residual):
    between = [node("Add", ["a_f", "x"], ["r"])] if residual == "float32" else []
    between.append(node("LayerNormalization", ["r" if between else "a_f", "gamma", "beta"], ["n"]))
    check_block(rng, quantised_block(rng, dtype, between, ["y"]), ["LayerNormalization"])
