"""DynamicQuantizeMatMul as two operators: the same numbers in stock onnxruntime, one quantisation for all readers."""

import numpy as np
import onnx_ir as ir
import pytest

from sparse_rt.graph import model_io
from sparse_rt.graph.layers.find import find_layers
from sparse_rt.plan.prepare.quantise_input import quantise_input
from tests.models.onnx_models import info, model, node, normal, sparse_int8, stock

MICROSOFT = "com.microsoft"


@pytest.fixture
def proto():
    rng = np.random.default_rng(4)
    constants = {"s": np.float32(0.02), "z": np.array(0, np.int8)}
    constants |= {name: sparse_int8(rng, 8, 8).T.copy() for name in ("v", "w")}
    nodes = [
        node("Neg", ["x"], ["a"]),
        node("DynamicQuantizeMatMul", ["a", "v", "s", "z"], ["b"], domain=MICROSOFT),
        node("DynamicQuantizeMatMul", ["a", "w", "s", "z"], ["c"], domain=MICROSOFT),
        node("Add", ["b", "c"], ["y"]),
    ]
    return model(nodes, [info("x", "m", 8)], [info("y", "m", 8)], constants, domains=[MICROSOFT])


def test_layers_that_read_the_same_value_share_its_quantisation(proto):
    parsed = model_io.read(proto)
    first, second = (quantise_input(layer) for layer in find_layers(parsed))
    assert first.form == second.form == "qlinear"
    assert (first.x, first.x_scale, first.x_zero_point) == (second.x, second.x_scale, second.x_zero_point)
    made = [each for each in parsed.graph if each.op_type == "DynamicQuantizeLinear"]
    assert len(made) == 1
    assert made[0].inputs[0].name == "a"


def test_the_model_computes_what_it_did(proto):
    parsed = model_io.read(proto)
    for layer in find_layers(parsed):
        quantise_input(layer)
    feeds = {"x": normal(np.random.default_rng(5), 3, 8)}
    np.testing.assert_array_equal(stock(ir.to_proto(parsed), feeds)[0], stock(proto, feeds)[0])
