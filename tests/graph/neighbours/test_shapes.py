"""Shapes of activations: certain, or not known."""

import numpy as np
import onnx
import pytest
from onnx import helper

from sparse_rt.graph import model_io
from sparse_rt.graph.neighbours.shapes import Shapes
from sparse_rt.graph.passes.compress import compress
from tests.graph import models

node = helper.make_node


def residual_model(x=("n", 8, 9, 9), others=None, kernel=3):
    weight = models.two_four(0, (8, 8, kernel, kernel))
    nodes = [
        node("Conv", ["x", "w"], ["h"], name="layer", pads=[1] * 4),
        node("Tanh", ["h"], ["i"]),
        node("Neg", ["i"], ["y"]),
        node("Neg", ["r"], ["z"]),
    ]
    outputs = [models.info(name, None) for name in "yz"]
    for value in outputs:
        value.type.tensor_type.ClearField("shape")
    inputs = [models.info("x", list(x)), models.info("r", list(others or x))]
    return models.model(nodes, inputs, outputs, {"w": weight})


def are_same(proto, one, other):
    model = model_io.read(compress(proto))
    before = model_io.to_proto(model).SerializeToString()
    values = {value.name: value for value in (*model.graph.inputs, *(v for n in model.graph for v in n.outputs))}
    found = Shapes(model).are_same(values[one], values[other])
    assert model_io.to_proto(model).SerializeToString() == before
    return found


@pytest.mark.parametrize("x", [("n", 8, 9, 9), (2, 8, 9, 9)])
def test_sizes_and_names_that_are_the_same(x):
    assert are_same(residual_model(x), "h", "r")
    assert are_same(residual_model(x), "h", "y")
    assert are_same(residual_model(x), "x", "x")


@pytest.mark.parametrize(
    "changes",
    [
        {"others": ("m", 8, 9, 9)},
        {"others": ("n", 8, 1, 1)},
        {"others": ("n", 1, 9, 9)},
        {"others": (8, 9, 9)},
        {"others": ("n", 8, 9, None)},
        {"x": ("n", 8, None, None)},
        {"kernel": 5},
    ],
)
def test_others(changes):
    assert not are_same(residual_model(**changes), "h", "r")


def test_what_a_file_says_of_inner_values_is_no_proof():
    proto = residual_model(x=("n", 8, None, None), others=("n", 8, 9, 9))
    proto.graph.value_info.append(models.info("h", ["n", 8, 9, 9]))
    proto.graph.output[0].CopyFrom(models.info("y", ["n", 8, 9, 9]))
    assert not are_same(proto, "h", "r")
    assert not are_same(proto, "y", "z")


def test_a_model_that_onnx_does_not_understand_has_no_shapes(monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("no")

    monkeypatch.setattr("onnx.shape_inference.infer_shapes", fail)
    assert not are_same(residual_model(), "h", "r")


def test_a_large_weight_is_not_decoded(monkeypatch):
    model = model_io.read(compress(residual_model()))
    values = {value.name: value for n in model.graph for value in n.outputs}
    monkeypatch.setattr(np, "ascontiguousarray", lambda *_: pytest.fail("decoded"))
    assert Shapes(model).are_same(values["h"], values["i"])


# --- what the file says ---------------------------------------------------------------------------------------------


def noted(proto):
    return {value.name: value.type.tensor_type for value in compress(proto).graph.value_info}


def sizes(kind):
    return [size.dim_value or size.dim_param or None for size in kind.shape.dim]


def test_shapes_of_what_operators_write_are_noted():
    assert {name: sizes(kind) for name, kind in noted(residual_model()).items()} == {"h": ["n", 8, 9, 9]}
    assert noted(residual_model())["h"].elem_type == onnx.TensorProto.FLOAT


def test_names_that_inference_makes_up_are_not():
    assert sizes(noted(residual_model(x=("n", 8, None, None), others=("n", 8, 9, 9)))["h"]) == ["n", 8, None, None]


def test_what_the_file_said_stays():
    proto = residual_model()
    proto.graph.value_info.append(models.info("h", ["other", None, 9, 9]))
    assert sizes(noted(proto)["h"])[1:3] == [None, 9]


def test_outputs_are_declared_as_they_were():
    proto = models.matmul_model(models.two_four(0, (8, 8)))
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    compressed = compress(proto)
    assert not compressed.graph.output[0].type.tensor_type.HasField("shape")
    assert not compressed.graph.value_info
