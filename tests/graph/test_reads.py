"""Who reads which value, subgraphs included."""

import onnx_ir as ir
from onnx import helper

from sparse_rt.graph.reads import outer_inputs, sole_consumer
from tests.models.onnx_models import info, model, node


def graph_of(nodes, outputs):
    return ir.from_proto(model(nodes, [info("x", 2), info("flag", kind=9)], outputs)).graph


def names(values):
    return [value.name for value in values]


def test_what_a_branch_captures_is_read_by_its_node():
    inner = helper.make_graph([node("Neg", ["b"], ["deep"])], "inner", [], [info("deep", 2)])
    other = helper.make_graph([node("Identity", ["x"], ["same"])], "other", [], [info("same", 2)])
    then = helper.make_graph(
        [node("Abs", ["a"], ["own"]), node("If", ["flag"], ["d"], then_branch=inner, else_branch=other)],
        "then",
        [],
        [info("d", 2)],
    )
    otherwise = helper.make_graph([], "otherwise", [], [info("a", 2)])
    nodes = [
        node("Neg", ["x"], ["a"]),
        node("Abs", ["x"], ["b"]),
        node("If", ["flag"], ["y"], then_branch=then, else_branch=otherwise),
    ]
    *_, last = graph_of(nodes, [info("y", 2)])
    assert set(names(outer_inputs(last))) == {"flag", "a", "b", "x"}


def test_a_sole_consumer_is_one_node_of_the_same_graph():
    branch = helper.make_graph([node("Identity", ["c"], ["t"])], "branch", [], [info("t", 2)])
    nodes = [
        node("Neg", ["x"], ["a"]),
        node("Abs", ["a"], ["b"]),
        node("Neg", ["b"], ["c"]),
        node("Add", ["b", "b"], ["d"]),
        node("If", ["flag"], ["y"], then_branch=branch, else_branch=branch),
    ]
    graph = graph_of(nodes, [info("y", 2), info("d", 2)])
    found = {each.outputs[0].name: sole_consumer(each.outputs[0]) for each in graph}
    assert found["a"] is graph[1]
    # b has three readers, c is read in a branch, d and y are outputs.
    assert [found[name] for name in "bcdy"] == [None] * 4
