"""How many axes values have: what onnxruntime's results show, and nothing that a model only notes."""

import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper

from sparse_rt.graph.layers.find import find_layers
from sparse_rt.graph.layers.ranks import find_ranks
from tests.graph import models

FOUR = [2, 3, 4, 5]
#: Nodes of x (2, 3, 4, 5), v (5,) and k (5, 6), the last one's first output called y; constants by name.
CASES = {
    "unary": ([("Relu", ["x"], {})], {}),
    "broadcast": ([("Add", ["v", "x"], {})], {}),
    "product": ([("MatMul", ["x", "k"], {})], {}),
    "product with a vector": ([("MatMul", ["x", "v"], {})], {}),
    "product of a vector": ([("MatMul", ["v", "k"], {})], {}),
    "vectors": ([("MatMul", ["v", "v"], {})], {}),
    "transpose": ([("Transpose", ["x"], {"perm": [3, 0, 1, 2]})], {}),
    "reshape": ([("Reshape", ["x", "a"], {})], {"a": np.array([0, 6, -1])}),
    "expand": ([("Expand", ["v", "a"], {})], {"a": np.array([7, 2, 5])}),
    "squeeze": ([("Unsqueeze", ["v", "a"], {}), ("Squeeze", ["t0", "b"], {})], {"a": np.array([0, 2]), "b": [2]}),
    "gather": ([("Gather", ["x", "a"], {"axis": 1})], {"a": np.zeros((2, 2, 2), np.int64)}),
    "gather one": ([("Gather", ["x", "a"], {"axis": 1})], {"a": np.array(1)}),
    "reduce": ([("ReduceMean", ["x"], {"axes": [1, 2], "keepdims": 0})], {}),
    "reduce and keep": ([("ReduceMean", ["x"], {"axes": [1, 2]})], {}),
    "reduce by an input": ([("ReduceSum", ["x", "a"], {"keepdims": 0})], {"a": np.array([-1])}),
    "largest": ([("ArgMax", ["x"], {"axis": 1, "keepdims": 0})], {}),
    "flatten": ([("Flatten", ["x"], {"axis": 3})], {}),
    "concat": ([("Concat", ["x", "x"], {"axis": 0})], {}),
    "split": ([("Split", ["x", "a"], {"axis": 0})], {"a": np.array([1, 1])}),
    "shape": ([("Shape", ["x"], {})], {}),
    "size": ([("Size", ["x"], {})], {}),
    "where": ([("Equal", ["v", "v"], {}), ("Where", ["t0", "x", "v"], {})], {}),
    "convolution": ([("Conv", ["x", "w"], {})], {"w": np.ones((2, 3, 1, 1), np.float32)}),
    "gemm": ([("Gemm", ["k", "k"], {"transB": 1})], {}),
    "pad": ([("Pad", ["x", "a"], {})], {"a": np.array([0, 0, 1, 1, 0, 0, 1, 1])}),
}


def graph(nodes, constants, wrong=False):
    made = []
    for number, (op_type, inputs, attributes) in enumerate(nodes):
        last = number == len(nodes) - 1
        outputs = ["y", "rest"] if op_type == "Split" else ["y"] if last else [f"t{number}"]
        made.append(helper.make_node(op_type, inputs, outputs, **attributes))
    inputs = [models.info("x", FOUR), models.info("v", [5]), models.info("k", [5, 6])]
    constants = {name: np.asarray(value) for name, value in constants.items()}
    output = helper.make_tensor_value_info("y", 0, None)
    proto = models.model(made, inputs, [output], constants)
    if wrong:
        proto.graph.value_info.append(models.info("t0", [1] * 7))
    return proto


def ranks_of(proto):
    model = ir.from_proto(proto)
    found = find_ranks(model.graph, find_layers(model))
    return {value.name: rank for value, rank in found.items()}


@pytest.mark.parametrize("name", CASES)
def test_ranks_are_those_of_results(name):
    proto = graph(*CASES[name])
    feeds = {"x": np.ones(FOUR, np.float32), "v": np.ones(5, np.float32), "k": np.ones((5, 6), np.float32)}
    kinds = {"Shape": 7, "Size": 7, "ArgMax": 7}
    proto.graph.output[0].type.tensor_type.elem_type = kinds.get(proto.graph.node[-1].op_type, 1)
    (y,) = models.run(proto, feeds)
    assert ranks_of(proto)["y"] == y.ndim


@pytest.mark.parametrize("name", [name for name, (nodes, _) in CASES.items() if len(nodes) > 1])
def test_what_a_model_notes_is_not_believed(name):
    assert ranks_of(graph(*CASES[name], wrong=True)) == ranks_of(graph(*CASES[name]))


def test_what_only_a_run_knows_stays_unknown():
    """A shape that is computed, an operator of another domain, an input without a shape, and all that follows."""
    nodes = [
        ("Reshape", ["x", "a"], {}),
        ("Relu", ["t0"], {}),
        ("Add", ["t1", "v"], {}),
    ]
    proto = graph(nodes, {})
    proto.graph.input.append(models.info("a", [None], np.int64))
    assert {"t0", "t1", "y"}.isdisjoint(ranks_of(proto))
    proto = graph([("Relu", ["x"], {})], {})
    proto.graph.input[0].type.tensor_type.ClearField("shape")
    assert "y" not in ranks_of(proto)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("rank", [1, 2, 3, None])
def test_layers_know_their_rank(side, rank):
    weight = models.two_four(0, (8, 8))
    proto = models.model(
        [helper.make_node("MatMul", ["w", "x"] if side == "left" else ["x", "w"], ["y"])],
        [models.info("x", None if rank is None else [None] * rank)],
        [helper.make_tensor_value_info("y", 1, None)],
        {"w": weight},
    )
    (layer,) = find_layers(ir.from_proto(proto))
    assert layer.rank == rank
