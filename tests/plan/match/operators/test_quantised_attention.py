"""What surrounds the products of a quantised attention: found where the bytes stay the same, and nowhere else."""

import numpy as np
import onnx_ir as ir
import pytest

from sparse_rt.plan.match.operators.context import Context
from sparse_rt.plan.match.operators.quantised_attention import quantised_context, quantised_operand, requantised
from tests.models.onnx_models import info, model, node

CONSTANTS = {"s": np.float32(0.5), "t": np.float32(0.25), "z": np.array(3, np.uint8), "shape": np.array([2, 5, 12])}


def graph_of(*nodes):
    inputs = [info("x", 2, 3, 5, 4), info("v", 2, 3, 4, 4)]
    return ir.from_proto(model(list(nodes), inputs, [info("y")], CONSTANTS)).graph


def quantise(x, y, scale="s"):
    return node("QuantizeLinear", [x, scale, "z"], [y])


def dequantise(x, y, scale="s"):
    return node("DequantizeLinear", [x, scale, "z"], [y])


@pytest.mark.parametrize("scale", ["s", "t"])
def test_a_value_is_requantised_where_both_nodes_have_one_quantisation(scale):
    graph = graph_of(quantise("x", "q"), dequantise("q", "f", scale), node("Neg", ["f"], ["y"]))
    found = requantised(graph[1].outputs[0], Context())
    if scale == "t":
        assert found is None
        return
    x, parameters, nodes = found
    assert (x.name, parameters.scale, parameters.zero_point) == ("x", 0.5, 3)
    assert nodes == (graph[0], graph[1])


PRODUCT = node("MatMul", ["x", "v"], ["p"])
MOVED = [
    dequantise("q", "f"),
    node("Transpose", ["f"], ["g"], perm=[0, 2, 1, 3]),
    node("Reshape", ["g", "shape"], ["h"]),
]


def test_a_context_is_followed_through_what_only_moves_its_bytes():
    graph = graph_of(PRODUCT, quantise("p", "q"), *MOVED, quantise("h", "y"))
    found = quantised_context(graph[0], 4, Context())
    assert (found.y.name, found.perm, found.quantised.scale) == ("y", (0, 2, 1, 3), 0.5)
    assert found.merged.sizes((2, 5, 3, 4)) == (2, 5, 12)
    assert found.absorbed == tuple(graph)[1:]


@pytest.mark.parametrize("last", [quantise("h", "y", "t"), node("Neg", ["h"], ["y"])])
def test_a_context_ends_where_its_bytes_would_change(last):
    graph = graph_of(PRODUCT, quantise("p", "q"), *MOVED, last)
    found = quantised_context(graph[0], 4, Context())
    assert (found.y.name, found.perm, found.absorbed) == ("q", (0, 1, 2, 3), (graph[1],))


def test_a_product_that_is_not_quantised_has_no_such_context():
    assert quantised_context(graph_of(PRODUCT, node("Neg", ["p"], ["y"]))[0], 4, Context()) is None


def test_an_operand_that_is_no_bytes_is_none():
    graph = graph_of(node("Neg", ["x"], ["y"]))
    assert quantised_operand(graph[0].outputs[0], Context()) is None
