"""Operands of integer kernels, or the reason why none fits: by hand-written arithmetic."""

import numpy as np
import pytest

from sparse_rt.plan.match.operands import Operands, Refusal
from tests.models.onnx_models import UINT8, info, node, sparse_int8
from tests.plan.match.operands.of_layer import of_layer


@pytest.fixture
def rng():
    return np.random.default_rng(11)


def product(rng, x_scale=0.1, weight_scale=0.02, y_scale=0.5, bias=None):
    """Return the operands of a QLinearConv of one pixel."""
    constants = {
        "xs": np.float32(x_scale),
        "xz": np.array(3, np.uint8),
        "w": sparse_int8(rng, 8, 16, 1, 1),
        "ws": np.full(8, weight_scale, np.float32),
        "wz": np.zeros(8, np.int8),
        "ys": np.float32(y_scale),
        "yz": np.array(9, np.uint8),
    }
    names = ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz"]
    if bias is not None:
        constants["b"] = bias
        names.append("b")
    found = of_layer(
        [node("QLinearConv", names, ["y"])],
        constants,
        [info("x", 1, 16, 4, 4, kind=UINT8)],
        [info("y", 1, 8, 4, 4, kind=UINT8)],
    )
    return found, constants


def test_integers_count_the_zero_point_of_x_and_scale_in_the_order_of_onnxruntime(rng):
    bias = rng.integers(-1000, 1000, 8).astype(np.int32)
    found, constants = product(rng, bias=bias)
    assert isinstance(found, Operands)
    weight = constants["w"].reshape(8, 16)
    np.testing.assert_array_equal(found.weight.decode().reshape(8, 16), weight)
    np.testing.assert_array_equal(found.epilogue.offset, bias - 3 * weight.sum(axis=1, dtype=np.int64))
    scale = np.float32(0.1) * np.full(8, 0.02, np.float32) / np.float32(0.5)
    np.testing.assert_array_equal(found.epilogue.scale, scale)
    assert (found.pad_value, found.epilogue.zero_point, found.x_zero_point, found.requantisation) == (3, 9, None, None)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"x_scale": 1e-30}, "float32 does not hold their products"),
        ({"weight_scale": 1e30}, "float32 does not hold their products"),
        ({"y_scale": 1e-25}, "float32 does not hold their products"),
        ({"bias": np.full(8, 2**31 - 1, np.int32)}, "int32 accumulator could overflow"),
    ],
)
def test_integers_that_no_kernel_computes_are_refused_with_the_reason(rng, changed, reason):
    found, _ = product(rng, **changed)
    assert isinstance(found, Refusal)
    assert reason in found.reason
