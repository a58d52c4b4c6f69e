"""Reshape and Flatten."""

import numpy as np
import pytest
from numba.core import config

from tests.models.onnx_models import info, model, node, normal, sparse_session
from tests.plan.match.operators.networks import check, layers

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="these operators are machine code")


@pytest.fixture
def rng():
    return np.random.default_rng(29)


@pytest.mark.parametrize(
    ("nodes", "shape"),
    [
        ([node("Reshape", ["a", "s"], ["y"])], [0, 2, 4]),
        ([node("Reshape", ["a", "s"], ["y"])], [-1, 2]),
        ([node("Flatten", ["a"], ["y"], axis=0)], [1]),
        ([node("Flatten", ["a"], ["y"], axis=-1)], [1]),
    ],
)
def test_reshapes(rng, nodes, shape):
    first, weights = layers(rng, "a")
    weights["s"] = np.array(shape, np.int64)
    out = info("y", *[None] * (len(shape) if nodes[0].op_type == "Reshape" else 2))
    proto = model([*first, *nodes], [info("x", "r", 8)], [out], weights)
    check(proto, {"x": normal(rng, 6, 8)}, [nodes[0].op_type])


def test_outputs_do_not_share_memory_with_what_the_session_keeps(rng):
    nodes, weights = layers(rng, "a")
    nodes.append(node("Flatten", ["a"], ["y"]))
    proto = model(nodes, [info("x", 2, 8)], [info("a", 2, 8), info("y", 2, 8)], weights)
    session, feeds = sparse_session(proto), {"x": normal(rng, 2, 8)}
    first = [value.copy() for value in session.run(None, feeds)]
    for value in session.run(None, feeds):
        value[...] = 0
    for y, reference in zip(session.run(None, feeds), first, strict=True):
        np.testing.assert_array_equal(y, reference)
