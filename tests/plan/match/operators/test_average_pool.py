"""AveragePool of bytes."""

import numpy as np
import pytest
from numba.core import config

from tests.models.onnx_models import info, model, node, normal, sparse, sparse_session
from tests.plan.match.operators.networks import KINDS, check, quantised_model

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="these operators are machine code")


@pytest.fixture
def rng():
    return np.random.default_rng(29)


AVERAGES = [
    {"kernel_shape": [2, 2], "strides": [2, 2]},
    {"kernel_shape": [3, 3], "strides": [2, 1], "pads": [1, 0, 1, 1]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "count_include_pad": 1},
    {"kernel_shape": [3, 2], "strides": [3, 2], "pads": [1, 0, 0, 1], "ceil_mode": 1},
]


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("attributes", AVERAGES)
def test_quantised_average_pool(rng, dtype, attributes):
    nodes = [
        node("AveragePool", ["a_d"], ["p"], **attributes),
        node("QuantizeLinear", ["p", "y_s", "y_z"], ["y"]),
    ]
    values = {"y_s": np.float32(0.03), "y_z": np.array(np.iinfo(dtype).min + 90, dtype)}
    outputs = [info("y", "b", 8, "p", "q", kind=KINDS[dtype])]
    proto = quantised_model(rng, dtype, ["a"], nodes, values, outputs)
    check(proto, {"x": normal(rng, 2, 8, 11, 9)}, ["QuantizeLinear", "AveragePool"], steps=1)


def test_windows_of_floats_are_left_to_onnxruntime_which_is_faster_at_them(rng):
    nodes = [
        node("Conv", ["x", "w"], ["a"]),
        node("AveragePool", ["a"], ["p"], **AVERAGES[1]),
        node("Conv", ["p", "w"], ["y"]),
    ]
    proto = model(nodes, [info("x", "b", 8, "h", "w")], [info("y", "b", 8, "p", "q")], {"w": sparse(rng, 8, 8, 1, 1)})
    described = [step.describe().split()[0] for step in sparse_session(proto).plan.steps]
    assert described[1] == "onnxruntime"
    assert "AveragePool" not in described
