"""A layer's bias for each output channel: by hand-written arithmetic."""

import numpy as np
import pytest

from sparse_rt.graph import model_io
from sparse_rt.graph.layers.find import find_layers
from sparse_rt.plan.draft import Draft
from sparse_rt.plan.match.operands.bias import real_bias, stored_bias, with_fused
from sparse_rt.plan.match.operands.record import Refusal
from tests.models.onnx_models import info, model, node, sparse, sparse_int8

N = 8
SCALE = np.linspace(0.01, 0.02, N).astype(np.float32)


def gemm(bias, **attributes):
    constants = {"w": sparse(np.random.default_rng(0), N, 16), "c": bias}
    nodes = [node("Gemm", ["x", "w", "c"], ["y"], transB=1, **attributes)]
    (layer,) = find_layers(model_io.read(model(nodes, [info("x", "m", 16)], [info("y", "m", N)], constants)))
    return layer


def quantised(bias, bias_scale, bias_point=0):
    """A convolution of dequantised weights whose bias is int32 behind DequantizeLinear."""
    constants = {
        "w": sparse_int8(np.random.default_rng(0), N, 4, 1, 1),
        "ws": np.float32(0.01),
        "b": bias,
        "bs": bias_scale,
        "bz": np.int32(bias_point),
    }
    nodes = [
        node("DequantizeLinear", ["w", "ws"], ["wf"]),
        node("DequantizeLinear", ["b", "bs", "bz"], ["bf"], axis=0),
        node("Conv", ["x", "wf", "bf"], ["y"]),
    ]
    proto = model(nodes, [info("x", 1, 4, 5, 5)], [info("y", 1, N, 5, 5)], constants)
    (layer,) = find_layers(model_io.read(proto))
    return layer


@pytest.mark.parametrize("shape", [(), (1,), (N,), (1, N)])
@pytest.mark.parametrize("beta", [1.0, -0.5])
def test_a_real_bias_is_broadcast_and_takes_beta(shape, beta):
    values = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    found = real_bias(gemm(values, beta=beta))
    np.testing.assert_array_equal(found.real, np.broadcast_to(values, (1, N))[0] * np.float32(beta))
    assert found.integer is None


def test_a_bias_for_each_row_is_refused():
    found = real_bias(gemm(np.arange(3, dtype=np.float32)[:, None]))
    assert isinstance(found, Refusal)
    assert "not one value for each output channel" in found.reason


def test_an_int32_bias_in_units_of_the_accumulator_stays_one():
    stored = np.arange(-4, 4, dtype=np.int32)
    found = stored_bias(quantised(stored, SCALE), SCALE)
    assert found.integer.dtype == np.int64
    np.testing.assert_array_equal(found.integer, stored)
    assert found.real is None


def test_a_bias_of_other_units_is_no_integer_of_the_accumulator():
    stored = np.arange(-4, 4, dtype=np.int32)
    found = stored_bias(quantised(stored, SCALE * 2), SCALE)
    assert found.integer is None
    np.testing.assert_allclose(found.real, stored * (SCALE * 2), rtol=1e-6)
    assert isinstance(stored_bias(quantised(stored, SCALE, 1), SCALE), Refusal)


def test_what_a_layer_absorbed_comes_after_its_bias():
    constants = {"w": sparse(np.random.default_rng(0), N, 16).T.copy(), "f": SCALE, "a": SCALE + 1}
    nodes = [node("MatMul", ["x", "w"], ["p"]), node("Mul", ["p", "f"], ["q"]), node("Add", ["q", "a"], ["y"])]
    parsed = model_io.read(model(nodes, [info("x", "m", 16)], [info("y", "m", N)], constants))
    draft = Draft(parsed, find_layers(parsed))
    fusion = draft.fusion(draft.layers[0])
    bias = np.arange(N, dtype=np.float32)
    np.testing.assert_allclose(with_fused(fusion, bias), bias * SCALE + (SCALE + 1), rtol=1e-6)
    np.testing.assert_array_equal(with_fused(fusion, None), SCALE + 1)
