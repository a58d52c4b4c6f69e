"""Samples: their axes, and those that do not fit."""

import numpy as np
import pytest
from onnx import helper

from sparse_rt.errors import FeedError
from tests.quantize.models import RNG, gemm, model, quantise


def test_inputs_without_a_batch_axis(tmp_path):
    """A vector and a scalar, stacked; a scalar that is the same in every run."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["xw"], name="fc"),
        helper.make_node("Mul", ["xw", "s"], ["sxw"]),
        helper.make_node("Add", ["sxw", "t"], ["y"]),
    ]
    proto = model(nodes, {"x": (16,), "s": (), "t": ()}, ["y"], {"w": RNG.standard_normal((16, 12))})
    arrays = {
        "x": RNG.standard_normal((20, 16)).astype(np.float32),
        "s": RNG.standard_normal(20).astype(np.float32),
        "t": np.float32(2),
    }
    result, _ = quantise(proto, tmp_path, {name: np.asarray(array) for name, array in arrays.items()})
    assert result.samples == 20
    assert result.errors[0].relative_rms < 0.05


def test_stacked_and_batched_inputs_together(tmp_path):
    nodes = [helper.make_node("MatMul", ["x", "w"], ["xw"], name="fc"), helper.make_node("Add", ["xw", "b"], ["y"])]
    proto = model(nodes, {"x": ("N", 16), "b": (12,)}, ["y"], {"w": RNG.standard_normal((16, 12))})
    arrays = {
        "x": RNG.standard_normal((10, 16)).astype(np.float32),
        "b": RNG.standard_normal((10, 12)).astype(np.float32),
    }
    assert quantise(proto, tmp_path, arrays)[0].samples == 10


def test_an_input_of_unknown_rank_has_its_samples_along_the_first_axis(tmp_path):
    proto = gemm(shape=None)
    assert quantise(proto, tmp_path, {"x": RNG.standard_normal((40, 16)).astype(np.float32)})[0].samples == 40


@pytest.mark.parametrize(
    ("arrays", "fact"),
    [
        ({"x": np.ones((2, 2, 2, 16), np.float32)}, "axes"),
        ({"x": np.float32(1)}, "axes"),
        ({}, "'x'"),
        ({"x": np.ones((0, 16), np.float32)}, "got 0"),
    ],
)
def test_samples_that_do_not_fit(arrays, fact, tmp_path):
    with pytest.raises(FeedError, match=fact):
        quantise(gemm(), tmp_path, {name: np.asarray(array) for name, array in arrays.items()})
