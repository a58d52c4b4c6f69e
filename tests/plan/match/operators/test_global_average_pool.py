"""GlobalAveragePool of bytes, the head of a network."""

import numpy as np
import pytest
from numba.core import config

from tests.models.onnx_models import info, node, normal, sparse
from tests.plan.match.operators.networks import check, quantised_model

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="these operators are machine code")


@pytest.fixture
def rng():
    return np.random.default_rng(29)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_quantised_head(rng, dtype):
    """GlobalAveragePool, Flatten and the last layer, all on bytes."""
    values = {
        "p_s": np.float32(0.02),
        "p_z": np.array(np.iinfo(dtype).min + 110, dtype),
        "f": (sparse(rng, 10, 8) * 200).clip(-127, 127).astype(np.int8).T.copy(),
        "f_s": np.float32(0.02),
    }
    nodes = [
        node("GlobalAveragePool", ["a_d"], ["p"]),
        node("QuantizeLinear", ["p", "p_s", "p_z"], ["p_q"]),
        node("DequantizeLinear", ["p_q", "p_s", "p_z"], ["p_d"]),
        node("Flatten", ["p_d"], ["v"]),
        node("QuantizeLinear", ["v", "p_s", "p_z"], ["v_q"]),
        node("DequantizeLinear", ["v_q", "p_s", "p_z"], ["v_d"]),
        node("DequantizeLinear", ["f", "f_s"], ["f_d"]),
        node("MatMul", ["v_d", "f_d"], ["y"]),
    ]
    proto = quantised_model(rng, dtype, ["a"], nodes, values, [info("y", "b", 10)])
    # One byte of a mean may differ by one step.
    check(
        proto,
        {"x": normal(rng, 3, 8, 7, 7)},
        ["QuantizeLinear", "GlobalAveragePool", "Flatten"],
        tolerance=0.05,
    )
