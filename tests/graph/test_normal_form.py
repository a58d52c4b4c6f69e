"""The normal form of what onnxruntime loads: it computes the same, and is said in one way."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from sparse_rt.errors import ModelError
from sparse_rt.graph.normal_form import normalise
from tests.graph import models


def chain(*order):
    """x -> Relu -> a -> Neg -> b -> Exp -> y, the nodes in another order."""
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], name="0"),
        helper.make_node("Neg", ["a"], ["b"], name="1"),
        helper.make_node("Exp", ["b"], ["y"], name="2"),
    ]
    return models.model([nodes[place] for place in order], [models.info("x", [3])], [models.info("y", [3])], {})


def test_nodes_stand_behind_what_they_read():
    proto = chain(2, 0, 1)
    normalise(proto, None, "model")
    assert [node.name for node in proto.graph.node] == ["0", "1", "2"]


def test_a_circle_is_refused():
    proto = chain(0, 1, 2)
    proto.graph.node[0].input[0] = "b"
    with pytest.raises(ModelError, match="a circle through node '0'"):
        normalise(proto, None, "model")


def test_the_domain_of_onnx_has_one_name_and_missing_imports_are_the_newest():
    proto = chain(0, 1, 2)
    proto.graph.node[1].domain = "ai.onnx"
    proto.graph.node[2].domain = "com.microsoft"
    proto.opset_import[0].domain = "ai.onnx"
    normalise(proto, None, "model")
    assert [node.domain for node in proto.graph.node] == ["", "", "com.microsoft"]
    assert {opset.domain: opset.version for opset in proto.opset_import} == {"": 17, "com.microsoft": 1}


def test_of_two_initializers_of_a_name_the_first_counts():
    proto = chain(0, 1, 2)
    for name, value in (("k", 1), ("l", 2), ("k", 3)):
        proto.graph.initializer.append(numpy_helper.from_array(np.array([value]), name))
    assert normalise(proto, None, "model") == {"k": 0, "l": 1}
    assert [numpy_helper.to_array(tensor).item() for tensor in proto.graph.initializer] == [1, 2]


@pytest.mark.parametrize("indices", [[1, 5], [[0, 1], [1, 2]]])
def test_sparse_initializers_are_made_dense(indices):
    proto = chain(0, 1, 2)
    values = numpy_helper.from_array(np.array([7.0, 8.0], np.float32), "s")
    at = numpy_helper.from_array(np.array(indices, np.int64), "at")
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, at, [2, 3]))
    assert normalise(proto, None, "model") == {"s": -1}
    assert not proto.graph.sparse_initializer
    np.testing.assert_array_equal(models.initializer(proto, "s"), [[0, 7, 0], [0, 0, 8]])


def test_functions_that_nothing_calls_go():
    body = [helper.make_node("Relu", ["a"], ["b"])]
    proto = chain(0, 1, 2)
    proto.graph.node[0].domain, proto.graph.node[0].op_type = "own", "Called"
    for name in ("Called", "Idle"):
        proto.functions.append(helper.make_function("own", name, ["a"], ["b"], body, [helper.make_opsetid("", 17)]))
    proto.opset_import.append(helper.make_opsetid("own", 1))
    normalise(proto, None, "model")
    assert [function.name for function in proto.functions] == ["Called"]
    onnx.checker.check_model(proto)
