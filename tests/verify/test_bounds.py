"""Bounds of floats."""

import numpy as np

from sparse_rt.graph.layers.find import find_layers
from sparse_rt.graph.model_io import read
from sparse_rt.verify.bounds import EPS, C, elementwise_bound, end_to_end_tolerance, noise_tolerance
from tests import naive
from tests.models.onnx_models import info, model, node, normal, sparse


def test_bound_is_what_the_formula_says(rng):
    w, x, bias = sparse(rng, 6, 8, 3, 3), normal(rng, 2, 8, 5, 5), normal(rng, 6)
    proto = model(
        [node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1], strides=[2, 1])],
        [info("x", 2, 8, 5, 5)],
        [info("y", None, None, None, None)],
        {"w": w},
    )
    (layer,) = find_layers(read(proto))
    scale = rng.uniform(0.5, 2, 6).astype(np.float32)
    magnitude = naive.conv2d(np.abs(x).astype(np.float64), np.abs(w * scale[:, None, None, None]), (2, 1), (1, 1, 1, 1))
    expected = C * (72 + 1) * EPS * (magnitude + np.abs(bias)[:, None, None])
    np.testing.assert_allclose(elementwise_bound(layer, x, scale, np.abs(bias)), expected, rtol=1e-4)


def test_tolerance_grows_with_the_layers_and_ends():
    assert end_to_end_tolerance([10]) < end_to_end_tolerance([10, 500]) < 1e-3
    assert end_to_end_tolerance([10**7]) == 2**-6
    assert noise_tolerance(0) == 2**-8
    assert noise_tolerance(0.03) == 0.06
    assert noise_tolerance(1) == 2**-3
