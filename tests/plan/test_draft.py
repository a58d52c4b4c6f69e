"""A layer's fusion is found once, whoever asks first."""

import numpy as np
import pytest

from sparse_rt.graph import model_io
from sparse_rt.graph.layers.find import find_layers
from sparse_rt.plan.draft import Draft
from tests.models.onnx_models import info, model, node, sparse, sparse_int8


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def test_the_same_fusion_is_returned_even_after_its_neighbours_have_changed(rng):
    constants = {"w": sparse(rng, 8, 8).T.copy(), "c": np.ones(8, np.float32)}
    nodes = [node("MatMul", ["x", "w"], ["a"]), node("Add", ["a", "c"], ["b"]), node("Relu", ["b"], ["y"])]
    parsed = model_io.read(model(nodes, [info("x", "m", 8)], [info("y", "m", 8)], constants))
    draft = Draft(parsed, find_layers(parsed))
    (layer,) = draft.layers
    found = draft.fusion(layer)
    assert [each.op_type for each in found.absorbed] == ["MatMul", "Add", "Relu"]
    parsed.graph[2].replace_input_with(0, parsed.graph.inputs[0])
    assert draft.fusion(layer) is found


def test_a_layer_that_quantises_its_own_input_is_quantised_once(rng):
    constants = {"w": sparse_int8(rng, 8, 8).T.copy(), "ws": np.float32(0.1), "wz": np.array(0, np.int8)}
    nodes = [node("DynamicQuantizeMatMul", ["x", "w", "ws", "wz"], ["y"], domain="com.microsoft")]
    proto = model(nodes, [info("x", "m", 8)], [info("y", "m", 8)], constants, domains=["com.microsoft"])
    parsed = model_io.read(proto)
    draft = Draft(parsed, find_layers(parsed))
    (layer,) = draft.layers
    assert layer.form == "dynamic"
    assert draft.fusion(layer).layer.form == "qlinear"
    assert draft.fusion(layer) is draft.fusion(layer)
    assert sum(each.op_type == "DynamicQuantizeLinear" for each in parsed.graph) == 1
