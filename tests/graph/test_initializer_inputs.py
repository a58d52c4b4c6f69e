"""Initializers that are inputs as well: what the reader takes out, and what is written all the same."""

import numpy as np
import pytest
from onnx import helper, numpy_helper

from sparse_rt.graph import model_io
from sparse_rt.graph.initializer_inputs import forget, take_out
from sparse_rt.graph.layers.weights import constant_array

ORDERS = (("x", "w", "c", "z"), ("w", "x", "z", "c"), ("c", "x", "z"), ("x", "z"))
SIZE = 8


def two_additions(ir_version, order):
    infos = {name: helper.make_tensor_value_info(name, 1, ["b", SIZE]) for name in ("x", "z")}
    infos["w"] = helper.make_tensor_value_info("w", 1, [SIZE, SIZE])
    infos["c"] = helper.make_tensor_value_info("c", 1, [SIZE], doc_string="a bias")
    rng = np.random.default_rng(0)
    arrays = {"w": rng.normal(size=(SIZE, SIZE)), "c": rng.normal(size=SIZE)}
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["product"]),
        helper.make_node("Add", ["product", "c"], ["sum"]),
        helper.make_node("Add", ["sum", "z"], ["y"]),
    ]
    outputs = [helper.make_tensor_value_info("y", 1, ["b", SIZE])]
    initializers = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items()]
    graph = helper.make_graph(nodes, "graph", [infos[name] for name in order], outputs, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=ir_version)


@pytest.mark.parametrize("order", ORDERS)
def test_before_overrides_they_are_constants_and_are_written_where_they_stood(order):
    proto = two_additions(3, order)
    model = model_io.read(proto)
    assert [value.name for value in model.graph.inputs] == [name for name in order if name in ("x", "z")]
    assert all(constant_array(model.graph.initializers[name]) is not None for name in ("w", "c"))
    written = model_io.to_proto(model.clone())
    assert list(written.graph.input) == list(proto.graph.input)


@pytest.mark.parametrize("ir_version", [4, 8])
@pytest.mark.parametrize("order", ORDERS)
def test_from_then_on_they_are_defaults(ir_version, order):
    model = model_io.read(two_additions(ir_version, order))
    assert [value.name for value in model.graph.inputs] == list(order)
    constant = [name for name in ("w", "c") if constant_array(model.graph.initializers[name]) is not None]
    assert constant == [name for name in ("w", "c") if name not in order]


def test_a_model_that_is_raised_to_a_version_with_overrides_loses_them():
    model = model_io.read(two_additions(3, ORDERS[0]))
    forget(model)
    take_out(model)
    assert [item.name for item in model_io.to_proto(model).graph.input] == ["x", "z"]
