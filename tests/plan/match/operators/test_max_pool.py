"""MaxPool of floats and of bytes."""

import numpy as np
import pytest
from numba.core import config

from tests.models.onnx_models import info, model, node, normal, sparse, sparse_session, stock
from tests.plan.match.operators.networks import KINDS, check, quantised_model

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="these operators are machine code")


@pytest.fixture
def rng():
    return np.random.default_rng(29)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize(
    "attributes",
    [
        {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
        {"kernel_shape": [2, 2]},
        {"kernel_shape": [1, 3], "strides": [1, 2], "pads": [0, 1, 0, 0]},
        {"kernel_shape": [3, 2], "strides": [3, 2], "pads": [1, 0, 0, 1], "ceil_mode": 1},
    ],
)
def test_quantised_max_pool(rng, dtype, attributes):
    nodes = [
        node("MaxPool", ["a_d"], ["p"], **attributes),
        node("QuantizeLinear", ["p", "a_s", "a_z"], ["y"]),
    ]
    proto = quantised_model(rng, dtype, ["a"], nodes, {}, [info("y", "b", 8, "p", "q", kind=KINDS[dtype])])
    check(proto, {"x": normal(rng, 2, 8, 11, 9)}, ["QuantizeLinear", "MaxPool"])


def test_float_max_pool(rng):
    nodes = [
        node("Conv", ["x", "w"], ["a"]),
        node("MaxPool", ["a"], ["p"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        node("Conv", ["p", "w"], ["y"]),
    ]
    proto = model(nodes, [info("x", "b", 8, "h", "w")], [info("y", "b", 8, "p", "q")], {"w": sparse(rng, 8, 8, 1, 1)})
    check(proto, {"x": normal(rng, 1, 8, 13, 21)}, ["MaxPool"], threads=2)


def test_pooling_that_the_kernel_does_not_know_stays_in_onnxruntime(rng):
    for attributes in ({"dilations": [2, 2]}, {"auto_pad": "SAME_UPPER"}):
        nodes = [
            node("Conv", ["x", "w"], ["a"]),
            node("MaxPool", ["a"], ["y"], kernel_shape=[2, 2], strides=[2, 2], **attributes),
        ]
        proto = model(nodes, [info("x", 1, 8, 9, 9)], [info("y", 1, 8, "p", "q")], {"w": sparse(rng, 8, 8, 1, 1)})
        session, feeds = sparse_session(proto), {"x": normal(rng, 1, 8, 9, 9)}
        assert "onnxruntime" in session.plan.describe()
        np.testing.assert_allclose(session.run(None, feeds)[0], stock(proto, feeds)[0], rtol=2e-5, atol=2e-5)
