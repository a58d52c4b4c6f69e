"""Levels of islands and steps: few, and in an order that respects their values."""

import random

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparse_rt.graph.layers.find import find_layers
from sparse_rt.plan.islands.schedule import schedule
from sparse_rt.plan.match.fusion import fuse
from sparse_rt.plan.match.replacement import Replacement
from tests.models.onnx_models import compare, info, model, node, normal, sparse


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def levels_of(proto):
    parsed = ir.from_proto(proto)
    fusions = [fuse(layer) for layer in find_layers(parsed) if layer.reason is None]
    names = {fusion.y: fusion.layer.name for fusion in fusions}
    levels = schedule(parsed.graph, [Replacement(None, (f.x,), f.y, f.absorbed) for f in fusions])
    return [([item.op_type for item in level.nodes], [names[r.y] for r in level.replacements]) for level in levels]


def test_nodes_wait_for_an_island_that_must_exist(rng):
    """Neg could run first, alone; it joins the island before the last layer instead."""
    proto = model(
        [
            node("Neg", ["u"], ["n"]),
            node("MatMul", ["x", "w"], ["a"], name="first"),
            node("Mul", ["a", "n"], ["m"]),
            node("MatMul", ["m", "w"], ["y"], name="second"),
        ],
        [info("x", "b", 8), info("u", "b", 8)],
        [info("y", "b", 8)],
        {"w": sparse(rng, 8, 8).T.copy()},
    )
    assert levels_of(proto) == [([], ["first"]), (["Neg", "Mul"], ["second"])]


def test_parallel_branches_share_islands(rng):
    nodes = []
    for branch in "pqr":
        nodes += [
            node("MatMul", ["x", "w"], [f"{branch}1"]),
            node("Sin", [f"{branch}1"], [f"{branch}2"]),
            node("MatMul", [f"{branch}2", "w"], [f"{branch}3"]),
        ]
    nodes.append(node("Sum", ["p3", "q3", "r3"], ["y"]))
    proto = model(nodes, [info("x", "b", 8)], [info("y", "b", 8)], {"w": sparse(rng, 8, 8).T.copy()})
    assert [len(nodes) for nodes, _ in levels_of(proto)] == [0, 3, 1]
    compare(proto, {"x": normal(rng, 3, 8)}, layers=6, islands=2)


def test_dead_nodes_are_left_out(rng):
    proto = model(
        [
            node("MatMul", ["x", "w"], ["y"], name="l"),
            node("Neg", ["x"], ["dead"]),
            node("MatMul", ["dead", "w"], ["z"]),
        ],
        [info("x", "b", 8)],
        [info("y", "b", 8)],
        {"w": sparse(rng, 8, 8).T.copy()},
    )
    assert levels_of(proto) == [([], ["l"])]


def random_node(draw, names, out):
    x, u = draw.choice(names), draw.choice(names)
    op_type, inputs, attributes = draw.choice(
        [
            ("MatMul", [x, "w"], {}),
            ("Gemm", [x, "v", "b"], {"transB": 1, "alpha": 0.5}),
            ("MatMul", [x, "d"], {}),
            ("Relu", [x], {}),
            ("Add", [x, "b"], {}),
            ("Add", [x, u], {}),
            ("Tanh", [x], {}),
        ]
    )
    return node(op_type, inputs, [out], **attributes)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6))
def test_random_graphs(seed):
    """Random wiring of layers, activations, joins and outputs: every plan computes what onnxruntime computes."""
    draw, rng = random.Random(seed), np.random.default_rng(seed)
    names, nodes = ["x", "u"], []
    weights = {"w": sparse(rng, 9, 9).T.copy(), "v": sparse(rng, 9, 9), "d": normal(rng, 9, 9), "b": normal(rng, 9)}
    for number in range(draw.randint(1, 14)):
        nodes.append(random_node(draw, names[-5:], f"t{number}"))
        names.append(f"t{number}")
    outputs = [name for name in names if name == names[-1] or draw.random() < 0.2]
    proto = model(nodes, [info("x", "b", 9), info("u", "b", 9)], [info(name, "b", 9) for name in outputs], weights)
    compare(proto, {"x": normal(rng, 3, 9), "u": normal(rng, 3, 9)}, tolerance=1e-4)
