"""The scores of an attention are found back from its Softmax: which values, times what, plus what."""

import numpy as np
import onnx_ir as ir
import pytest

from sparse_rt.plan.match.operators.attention_scores import find_scores, positive_factor
from sparse_rt.plan.match.operators.context import Context
from tests.models.onnx_models import info, model, node

CONSTANTS = {"quarter": np.float32(0.25), "four": np.float32(4), "minus": np.float32(-1)}
PRODUCT = node("MatMul", ["q", "k"], ["p"])


def graph_of(*nodes, outputs=("y",)):
    inputs = [info("q", 2, 3, 5, 4), info("k", 2, 3, 4, 5), info("mask", 2, 1, 5, 5)]
    return ir.from_proto(model(list(nodes), inputs, [info(name) for name in outputs], CONSTANTS)).graph


def scores_of(*nodes, **kw):
    graph = graph_of(*nodes, node("Softmax", [nodes[-1].output[0]], ["y"]), **kw)
    return find_scores(graph[len(nodes)], Context(dict.fromkeys(graph[0].outputs, 4)))


@pytest.mark.parametrize(
    "scaled",
    [
        node("Mul", ["p", "quarter"], ["s"]),
        node("Mul", ["quarter", "p"], ["s"]),
        node("Div", ["p", "four"], ["s"]),
    ],
)
@pytest.mark.parametrize("operands", [["s", "mask"], ["mask", "s"]])
def test_a_factor_and_a_mask_after_it_are_found(scaled, operands):
    found = scores_of(PRODUCT, scaled, node("Add", operands, ["m"]))
    assert (found.query.name, found.key.name, found.mask.name) == ("q", "k", "mask")
    assert (found.scale, found.alpha, found.is_key_in_rows, found.quantised) == (0.25, 1.0, False, None)
    assert [one.op_type for one in found.absorbed] == ["MatMul", scaled.op_type, "Add"]


def test_the_factor_of_a_product_counts_too():
    fused = node("FusedMatMul", ["q", "k"], ["p"], domain="com.microsoft", alpha=0.5, transB=1)
    found = scores_of(fused, node("Mul", ["p", "quarter"], ["s"]))
    assert (found.scale, found.alpha, found.is_key_in_rows) == (0.125, 0.5, True)


def test_what_is_masked_before_it_is_scaled_is_left():
    assert scores_of(PRODUCT, node("Add", ["p", "mask"], ["m"]), node("Mul", ["m", "quarter"], ["s"])) is None


def test_scores_that_somebody_else_needs_are_left():
    nodes = PRODUCT, node("Mul", ["p", "quarter"], ["s"])
    assert scores_of(*nodes) is not None
    assert scores_of(*nodes, outputs=("y", "s")) is None
    assert scores_of(*nodes, outputs=("y", "p")) is None


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (node("Mul", ["q", "four"], ["y"]), 4.0),
        (node("Div", ["q", "four"], ["y"]), 0.25),
        (node("Mul", ["q", "minus"], ["y"]), None),
        (node("Div", ["four", "q"], ["y"]), None),
        (node("Mul", ["q", "q"], ["y"]), None),
        (node("Add", ["q", "four"], ["y"]), None),
    ],
)
def test_a_factor_is_a_positive_number_that_something_is_multiplied_by(one, expected):
    graph = graph_of(one)
    found = positive_factor(graph[0], Context())
    assert (None if found is None else (found[0].name, found[1])) == (None if expected is None else ("q", expected))
