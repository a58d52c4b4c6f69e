"""Operands of float kernels, or the reason why none fits: by hand-written arithmetic."""

import numpy as np
import pytest

from sparse_rt.plan.match.operands import Operands, Refusal
from tests.models.onnx_models import info, node, sparse
from tests.plan.match.operands.of_layer import of_layer


@pytest.fixture
def rng():
    return np.random.default_rng(11)


def gemm(rng, **attributes):
    constants = {"w": sparse(rng, 8, 16), "c": rng.normal(size=8).astype(np.float32)}
    found = of_layer(
        [node("Gemm", ["x", "w", "c"], ["y"], transB=1, **attributes)],
        constants,
        [info("x", "m", 16)],
        [info("y", "m", 8)],
    )
    return found, constants


def test_floats_take_factors_into_weight_and_bias(rng):
    found, constants = gemm(rng, alpha=0.5, beta=-2.0)
    assert isinstance(found, Operands)
    np.testing.assert_array_equal(found.weight.decode(), constants["w"] * np.float32(0.5))
    np.testing.assert_array_equal(found.epilogue.bias, constants["c"] * np.float32(-2))


def test_factors_that_lose_digits_of_the_weight_are_refused(rng):
    found, _ = gemm(rng, alpha=1e-38)
    assert isinstance(found, Refusal)
    assert "leave the range of float32" in found.reason
