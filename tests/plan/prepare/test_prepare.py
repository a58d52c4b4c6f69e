"""A model is brought to one form: the same outputs, the same names, and the layers in sight."""

import numpy as np
import pytest
from onnx import helper

from sparse_rt.graph import model_io
from sparse_rt.graph.layers.find import find_layers
from sparse_rt.plan.prepare import prepare as prepare_module
from sparse_rt.plan.prepare.prepare import prepare
from tests.models.onnx_models import info, model, node, normal, sparse, stock

WEIGHT = sparse(np.random.default_rng(0), 8, 8)
IMPORTS = [helper.make_opsetid("", 17)]


def function(name, nodes, imports=IMPORTS, domain="own"):
    imports = [*imports, helper.make_opsetid("own", 1)]
    return helper.make_function(domain, name, ["a", "b"], ["c"], nodes, imports)


def called(functions, name="Block"):
    """y = the function of x and a weight."""
    nodes = [node(name, ["x", "w"], ["y"], domain="own", name="call")]
    held = {"w": WEIGHT.T.copy()}
    return model(nodes, [info("x", "m", 8)], [info("y", "m", 8)], held, functions=functions, domains=["own"])


def prepared(proto):
    return prepare(model_io.read(proto))


def product(output="c"):
    return node("MatMul", ["a", "b"], [output], name="product")


def test_layers_in_functions_come_into_sight_and_outputs_stay():
    proto = called([function("Block", [product("p"), node("Relu", ["p"], ["c"])])])
    assert [layer.reason for layer in find_layers(model_io.read(proto))] == ["inside a local function of the model"]
    found = prepared(proto)
    (layer,) = find_layers(found)
    np.testing.assert_array_equal(layer.dense_weight(), WEIGHT)
    feeds = {"x": normal(np.random.default_rng(1), 3, 8)}
    np.testing.assert_array_equal(stock(model_io.to_proto(found), feeds)[0], stock(proto, feeds)[0])


def test_constants_are_folded_pads_absorbed_and_names_stay():
    held = {
        "w": sparse(np.random.default_rng(0), 8, 8, 3, 3),
        "p": np.array([0, 0, 1, 2, 0, 0, 1, 2]),
        "t": np.int64(0),
    }
    nodes = [
        node("Add", ["p", "t"], ["pads"]),
        node("Pad", ["x", "pads"], ["padded"]),
        node("Conv", ["padded", "w"], ["y"], name="layer"),
    ]
    proto = model(nodes, [info("x", 1, 8, 6, 6)], [info("y", 1, 8, 6, 8)], held)
    found = prepared(proto)
    (layer,) = find_layers(found)
    assert [one.op_type for one in found.graph] == ["Conv"]
    assert (layer.name, layer.x.name, layer.y.name) == ("layer", "x", "y")
    assert layer.attributes["pads"] == (1, 2, 1, 2)


def test_functions_of_another_opset_stay():
    found = prepared(called([function("Block", [product()], [helper.make_opsetid("", 16)])]))
    assert [one.op_type for one in found.graph] == ["Block"]


def nested(depth):
    """Functions that call the one before twice: 2^depth products."""
    functions = [function("F0", [product()])]
    for level in range(1, depth + 1):
        inner = f"F{level - 1}"
        body = [node(inner, ["a", "b"], ["d"], domain="own"), node(inner, ["d", "b"], ["c"], domain="own")]
        functions.append(function(f"F{level}", body))
    return called(functions, f"F{depth}")


@pytest.mark.parametrize("most", [1, 1000])
def test_functions_that_grow_beyond_bounds_stay(most, monkeypatch):
    monkeypatch.setattr(prepare_module, "_MOST_INLINED", most)
    found = prepared(nested(3))
    assert [one.op_type for one in found.graph] == (["F3"] if most == 1 else ["MatMul"] * 8)
