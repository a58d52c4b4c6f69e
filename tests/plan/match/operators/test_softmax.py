"""Softmax at the end of a model."""

import numpy as np
import pytest
from numba.core import config

from tests.models.onnx_models import info, model, node, normal, sparse, sparse_session
from tests.plan.match.operators.networks import check

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="these operators are machine code")


@pytest.fixture
def rng():
    return np.random.default_rng(29)


@pytest.mark.parametrize("shape", [(1, 8), (5, 7, 8)])
def test_softmax_at_the_end(rng, shape):
    """Of a classifier."""
    weight = {"w": np.ascontiguousarray(sparse(rng, 20, 8).T)}
    nodes = [node("MatMul", ["x", "w"], ["h"]), node("Softmax", ["h"], ["y"], axis=-1)]
    proto = model(nodes, [info("x", *shape)], [info("y", *shape[:-1], 20)], weight)
    check(proto, {"x": normal(rng, *shape)}, ["Softmax"])


def test_softmax_along_another_axis_stays_in_onnxruntime(rng):
    weight = {"w": np.ascontiguousarray(sparse(rng, 20, 8).T)}
    nodes = [node("MatMul", ["x", "w"], ["h"]), node("Softmax", ["h"], ["y"], axis=0)]
    proto = model(nodes, [info("x", 6, 8)], [info("y", 6, 20)], weight)
    assert "onnxruntime" in sparse_session(proto).plan.describe()
