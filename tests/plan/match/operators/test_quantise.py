"""QuantizeLinear and DequantizeLinear around operators."""

import numpy as np
import pytest
from numba.core import config

from tests.models.onnx_models import UINT8, info, model, node, normal, sparse_session, stock
from tests.plan.match.operators.networks import check_block, layers, quantised_block

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="these operators are machine code")


@pytest.fixture
def rng():
    return np.random.default_rng(29)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("read_elsewhere", [False, True])
def test_quantised_block_of_a_transformer(rng, dtype, swapped, read_elsewhere):
    """A quantised product, its bias, the residual, the normalisation, and the next product: bytes in between."""
    between = [
        node("Add", ["bias", "a_f"] if swapped else ["a_f", "bias"], ["c"]),
        node("Add", ["x_f", "c"] if swapped else ["c", "x_f"], ["r"]),
        node("LayerNormalization", ["r", "gamma", "beta"], ["n"]),
    ]
    proto = quantised_block(rng, dtype, between, ["y", "c"] if read_elsewhere else ["y"])
    check_block(rng, proto, [*["DequantizeLinear"] * read_elsewhere, "LayerNormalization"])


@pytest.mark.parametrize("scale", [2.0**-100, 2.0**100])
def test_scales_beyond_the_kernels_stay_in_onnxruntime(rng, scale):
    nodes, weights = layers(rng, "a")
    weights |= {"s": np.float32(scale), "z": np.array(7, np.uint8)}
    nodes.append(node("QuantizeLinear", ["a", "s", "z"], ["y"]))
    proto = model(nodes, [info("x", "r", 8)], [info("y", "r", 8, kind=UINT8)], weights)
    session, feeds = sparse_session(proto), {"x": normal(rng, 3, 8)}
    assert "onnxruntime" in session.plan.describe()
    np.testing.assert_array_equal(session.run(None, feeds)[0], stock(proto, feeds)[0])
