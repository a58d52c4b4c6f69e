"""Concat of floats and of bytes."""

import numpy as np
import pytest
from numba.core import config

from sparse_rt.errors import FeedError
from tests.models.onnx_models import info, model, node, normal, sparse_session
from tests.plan.match.operators.networks import KINDS, check, layers, quantised_model

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="these operators are machine code")


@pytest.fixture
def rng():
    return np.random.default_rng(29)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("batch", [1, 3, 11])
@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("axis", [1, -1])
def test_quantised_concat(rng, dtype, batch, threads, axis):
    """Three inputs of different scales, one of them quantised like the result, one of them twice."""
    nodes = [
        node("Concat", ["a_d", "b_d", "a_d", "c_d"], ["p"], axis=axis),
        node("QuantizeLinear", ["p", "c_s", "c_z"], ["y"]),
    ]
    outputs = [info("y", "b", *[None] * 3, kind=KINDS[dtype])]
    proto = quantised_model(rng, dtype, ["a", "b", "c"], nodes, {}, outputs)
    check(proto, {"x": normal(rng, batch, 8, 5, 7)}, ["QuantizeLinear", "Concat"], steps=1, threads=threads)


@pytest.mark.parametrize("rows", [0, 1, 5])
def test_float_concat(rng, rows):
    nodes, weights = layers(rng, "a", "b")
    nodes.append(node("Concat", ["a", "b", "x"], ["y"], axis=1))
    proto = model(nodes, [info("x", "r", 8)], [info("y", "r", 24)], weights)
    check(proto, {"x": normal(rng, rows, 8)}, ["Concat"])


def test_concat_of_shapes_that_do_not_fit(rng):
    nodes, weights = layers(rng, "a")
    nodes.append(node("Concat", ["a", "u"], ["y"], axis=1))
    proto = model(nodes, [info("x", "r", 8), info("u", "p", "q")], [info("y", None, None)], weights)
    session = sparse_session(proto)
    assert "Concat" in session.plan.describe()
    with pytest.raises(FeedError, match="axis 1 only"):
        session.run(None, {"x": normal(rng, 3, 8), "u": normal(rng, 2, 8)})
