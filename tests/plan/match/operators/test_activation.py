"""Sigmoid, Tanh and other activations between sparse layers, of floats and of bytes."""

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
@pytest.mark.parametrize("op_type", ["Sigmoid", "Tanh"])
@pytest.mark.parametrize("rows", [1, 3, 5000])
def test_float_activation(rng, op_type, rows, threads):
    nodes, weights = layers(rng, "a")
    proto = model([*nodes, node(op_type, ["a"], ["y"])], [info("x", "r", 8)], [info("y", "r", 8)], weights)
    check(proto, {"x": 3 * normal(rng, rows, 8)}, [op_type], threads=threads)


@pytest.mark.parametrize("op_type", ["Sigmoid", "Tanh"])
@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("quantises", [False, True])
def test_activation_of_bytes(rng, op_type, dtype, quantises):
    """A table of 256 entries between the two layers' bytes, and at the end float32 straight from bytes."""
    low = np.iinfo(dtype).min
    values = {"p_s": np.float32(0.008), "p_z": np.array(low + 128, dtype)}
    nodes = [node(op_type, ["a_d"], ["p"])]
    outputs = [info("p", "b", 8, "h", "w")]
    if quantises:
        nodes += [node("QuantizeLinear", ["p", "p_s", "p_z"], ["y"])]
        outputs = [info("y", "b", 8, "h", "w", kind=KINDS[dtype])]
    proto = quantised_model(rng, dtype, ["a"], nodes, values, outputs)
    check(proto, {"x": normal(rng, 2, 8, 11, 14)}, ["QuantizeLinear", op_type], steps=1, threads=2)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize(
    ("op_type", "attributes"),
    [
        ("Elu", {"alpha": 0.7}),
        ("HardSigmoid", {}),
        ("HardSigmoid", {"alpha": 0.4, "beta": 0.2}),
        ("HardSwish", {}),
        ("LeakyRelu", {}),
        ("LeakyRelu", {"alpha": 0.3}),
        ("Softplus", {}),
    ],
)
def test_activations_of_bytes(rng, dtype, op_type, attributes):
    nodes = [
        node(op_type, ["a_d"], ["p"], **attributes),
        node("QuantizeLinear", ["p", "y_s", "y_z"], ["y"]),
    ]
    values = {"y_s": np.float32(0.02), "y_z": np.array(np.iinfo(dtype).min + 90, dtype)}
    outputs = [info("y", "b", 8, "h", "w", kind=KINDS[dtype])]
    proto = quantised_model(rng, dtype, ["a"], nodes, values, outputs)
    check(proto, {"x": 3 * normal(rng, 2, 8, 5, 7)}, ["QuantizeLinear", op_type], steps=1)
