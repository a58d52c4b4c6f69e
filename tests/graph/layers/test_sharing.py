"""Weights of several readers: which may be changed, by hand."""

import pytest
from onnx import helper

from sparse_rt.graph import model_io
from sparse_rt.graph.layers.find import find_layers
from sparse_rt.graph.layers.sharing import candidate_of, stay_dense
from tests.graph import models

WEIGHT = models.two_four(0, (8, 8))


def reasons(*nodes):
    """Of the layers of nodes that read x (m, 8) and the weight w (8, 8), by name."""
    x, outputs = models.info("x", ["m", 8]), [models.info(name, [None, 8]) for node in nodes for name in node.output]
    layers = find_layers(model_io.read(models.model(nodes, [x], outputs, {"w": WEIGHT})))
    return {candidate.layer.name: reason for candidate, reason in stay_dense(list(map(candidate_of, layers))).items()}


def matmul(name):
    return helper.make_node("MatMul", ["x", "w"], [f"{name}_y"], name=name)


def gemm(name, **attributes):
    return helper.make_node("Gemm", ["x", "w"], [f"{name}_y"], name=name, **attributes)


def test_layers_that_read_a_weight_alike_share_it():
    assert reasons(matmul("a"), gemm("b"), matmul("c")) == {}


def test_layers_that_read_a_weight_in_two_orientations_all_keep_it():
    reason = "its weight is shared by layers that read it in different orientations"
    assert reasons(matmul("a"), gemm("b", transB=1)) == {"a": reason, "b": reason}


@pytest.mark.parametrize("link", [False, True])
def test_a_reader_that_is_no_layer_keeps_the_weight_as_it_is(link):
    """Also where it reads the weight through a link, which changes nothing of it."""
    nodes = [matmul("a"), helper.make_node("Add", ["x", "v" if link else "w"], ["z"], name="other")]
    if link:
        nodes.insert(0, helper.make_node("Identity", ["w"], ["v"]))
    x, outputs = models.info("x", [8, 8]), [models.info("a_y", [8, 8]), models.info("z", [8, 8])]
    (layer,) = find_layers(model_io.read(models.model(nodes, [x], outputs, {"w": WEIGHT})))
    candidate = candidate_of(layer)
    assert stay_dense([candidate]) == {candidate: "its weight is also read by 'other', which needs it as it is"}


def test_a_weight_that_is_an_output_stays():
    x, outputs = models.info("x", ["m", 8]), [models.info("a_y", ["m", 8]), models.info("w", [8, 8])]
    (layer,) = find_layers(model_io.read(models.model([matmul("a")], [x], outputs, {"w": WEIGHT})))
    (reason,) = stay_dense([candidate_of(layer)]).values()
    assert "an output of the graph" in reason


def test_a_layer_whose_weight_is_fed_is_no_candidate():
    inputs = [models.info("x", ["m", 8]), models.info("w", [8, 8])]
    (layer,) = find_layers(model_io.read(models.model([matmul("a")], inputs, [models.info("a_y", ["m", 8])], {})))
    with pytest.raises(ValueError, match="layer 'a': expected a dense constant weight"):
        candidate_of(layer)
