"""Operators are steps of ours only where that makes no island."""

import onnx_ir as ir

from sparse_rt.plan.match.operators.worthwhile import worthwhile
from sparse_rt.plan.match.replacement import Replacement
from tests.models.onnx_models import info, model, node


def replacement(node_):
    return Replacement(None, tuple(node_.inputs), node_.outputs[0], (node_,))


def kept(nodes, layers, operators):
    """Return the op_types of the operators that are kept, of a graph in which the nodes named are steps of ours."""
    graph = ir.from_proto(model(nodes, [info("x", 2)], [info("y", 2)])).graph
    by_name = {each.outputs[0].name: replacement(each) for each in graph}
    found = worthwhile(graph, [by_name[name] for name in layers], [by_name[name] for name in operators])
    return [one.y.name for one in found]


def chain(*op_types):
    names = ["x", *"abcdefg"[: len(op_types) - 1], "y"]
    return [node(op, [x], [y]) for op, x, y in zip(op_types, names, names[1:], strict=False)]


def test_between_layers_an_operator_is_kept_and_elsewhere_not():
    assert kept(chain("Neg", "Abs", "Neg"), ["a", "y"], ["b"]) == ["b"]
    # Nothing of ours is next to it.
    assert kept(chain("Neg", "Abs", "Neg", "Exp"), ["y"], ["a"]) == []


def test_what_has_an_island_on_both_sides_goes_and_with_it_what_leaned_on_it():
    nodes = [
        node("Exp", ["x"], ["a"]),
        node("Neg", ["x"], ["layer"]),
        node("Add", ["layer", "a"], ["b"]),
        node("Abs", ["b"], ["c"]),
        node("Exp", ["c"], ["d"]),
        node("Sub", ["d", "layer"], ["y"]),
    ]
    # b reads what onnxruntime makes, c is read by it: alone b is worth it for c's sake, and c for b's, as a chain.
    assert kept(nodes, ["layer"], ["b", "c"]) == ["b", "c"]
    # Without c, b would be written for onnxruntime and read from it.
    assert kept(nodes, ["layer"], ["b"]) == []


def test_quantisation_stays_with_an_operator_of_onnxruntimes():
    nodes = [
        node("Neg", ["x"], ["a"]),
        node("QuantizeLinear", ["a", "x"], ["q"]),
        node("DequantizeLinear", ["q", "x"], ["f"]),
        node("Exp", ["f"], ["y"]),
    ]
    assert kept(nodes, ["a"], ["q", "f"]) == ["q"]
