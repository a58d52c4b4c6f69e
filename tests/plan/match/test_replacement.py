"""What a replacement says it stands for is true of the graph: whom it reads, what it writes, whom nobody misses."""

import numpy as np

from sparse_rt.graph import model_io
from sparse_rt.graph.layers.find import find_layers
from sparse_rt.plan.draft import Draft
from sparse_rt.plan.match.choose import choose
from tests.models.onnx_models import info, model, node, sparse


def replacement(outputs):
    """Of the layer x w, in x -> MatMul -> p -> Add -> q -> Relu -> y."""
    held = {"w": sparse(np.random.default_rng(0), 8, 16).T.copy(), "b": np.ones(8, np.float32)}
    nodes = [node("MatMul", ["x", "w"], ["p"]), node("Add", ["p", "b"], ["q"]), node("Relu", ["q"], ["y"])]
    parsed = model_io.read(model(nodes, [info("x", "m", 16)], [info(name, "m", 8) for name in outputs], held))
    draft = Draft(parsed, find_layers(parsed))
    return choose(draft.layers[0], draft.fusion).replacement


def test_it_reads_what_is_no_constant_and_writes_what_the_last_node_wrote():
    found = replacement(["y"])
    assert [one.op_type for one in found.absorbed] == ["MatMul", "Add", "Relu"]
    assert [value.name for value in found.reads] == ["x"] == list(found.step.inputs)
    assert found.y.name == found.step.y == "y"


def test_nobody_else_needs_what_lies_between():
    found = replacement(["y", "q"])
    assert [one.op_type for one in found.absorbed] == ["MatMul", "Add"]
    assert found.y.name == "q"
    assert replacement(["y", "p"]).y.name == "p"
