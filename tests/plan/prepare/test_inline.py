"""Local functions in place of their calls: what they read and write, and the names that result."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from sparse_rt.graph import model_io
from sparse_rt.plan.prepare.prepare import prepare
from tests.models.onnx_models import compare, info, model, node, normal, sparse

OPSETS = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]


def function(inputs, outputs, nodes, attributes=(), defaults=(), name="F"):
    return helper.make_function("f", name, inputs, outputs, nodes, OPSETS, list(attributes), list(defaults))


def call(inputs, outputs, name="F", **attributes):
    return node(name, inputs, outputs, domain="f", **attributes)


def branches(condition, x, y, then, otherwise):
    graphs = {
        "then_branch": helper.make_graph(then, "then", [], [info("r", "b", 8)]),
        "else_branch": helper.make_graph(otherwise, "else", [], [info("r", "b", 8)]),
    }
    constant = numpy_helper.from_array(np.array(condition))
    return [node("Constant", [], [f"{y}_if"], value=constant), node("If", [f"{y}_if"], [y], **graphs)]


def referring(op_type, name, outer, kind, **where):
    made = node(op_type, ["a"], ["b"], **where)
    made.attribute.append(onnx.AttributeProto(name=name, ref_attr_name=outer, type=kind))
    return made


TANH = function(["a"], ["b"], [node("Tanh", ["a"], ["t"]), node("Relu", ["t"], ["b"])])
PAIR = function(["a"], ["b", "c"], [node("Relu", ["a"], ["b"]), node("Neg", ["b"], ["c"])])
CLIP = function(["lo", "a", "hi"], ["b"], [node("Clip", ["a", "lo", "hi"], ["b"])])
LEAKY = function(["a"], ["b"], [referring("LeakyRelu", "alpha", "k", 1)], defaults=[helper.make_attribute("k", 0.7)])
OUTER = function(["a"], ["b"], [referring("F", "k", "m", 1, domain="f")], ["m"], name="G")
INNER_BRANCH = function(
    ["a"],
    ["b"],
    [
        node("Tanh", ["a"], ["t"]),
        *branches(
            True,
            "a",
            "b",
            [node("Add", ["t", "a"], ["v"]), node("Neg", ["v"], ["r"])],
            [node("Neg", ["t"], ["r"])],
        ),
    ],
)
TAIL = [node("MatMul", ["m", "w"], ["y"])]

CASES = {
    "an output nobody reads": ([call(["x"], ["", "m"])], [PAIR]),
    "an input left out": ([call(["", "x"], ["m"])], [CLIP]),
    "attributes, given and not": ([call(["x"], ["n"], k=0.3), call(["n"], ["m"])], [LEAKY]),
    "attributes through two": ([call(["x"], ["n"], "G", m=0.3), call(["n"], ["m"], "G")], [LEAKY, OUTER]),
    "a branch with names of the body": (
        [
            call(["x"], ["n"]),
            *branches(
                True, "n", "m", [node("Exp", ["n"], ["t"]), node("Neg", ["t"], ["r"])], [node("Neg", ["n"], ["r"])]
            ),
        ],
        [TANH],
    ),
    "a call in a branch": (
        [*branches(False, "x", "m", [node("Neg", ["x"], ["r"])], [call(["x"], ["t"]), node("Exp", ["t"], ["r"])])],
        [TANH],
    ),
    "a branch in the body": ([call(["x"], ["n"]), call(["n"], ["m"])], [INNER_BRANCH]),
    "names of the body elsewhere": ([call(["x"], ["t"]), node("Neg", ["t"], ["b"]), call(["b"], ["m"])], [TANH]),
}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_bodies_in_place_of_calls(case):
    rng = np.random.default_rng(4)
    nodes, functions = CASES[case]
    weight = sparse(rng, 8, 8).T.copy()
    proto = model(
        [*nodes, *TAIL], [info("x", "b", 8)], [info("y", "b", 8)], {"w": weight}, functions=functions, domains=["f"]
    )
    read = model_io.read(proto)
    prepared = prepare(read)
    assert not prepared.functions
    names = [value.name for one in prepared.graph.all_nodes() for value in one.outputs if value.name]
    # Results of both branches have one name from the beginning.
    assert max(map(names.count, {*names} - {"r"})) == 1
    assert "m" in names
    compare(proto, {"x": normal(rng, 3, 8)}, layers=1)
