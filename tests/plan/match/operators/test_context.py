"""Facts about values that all matchers share."""

import numpy as np
import onnx_ir as ir
import pytest

from sparse_rt.plan.match.operators.context import Context, is_along_last_axis
from tests.models.onnx_models import UINT8, info, model, node

CONSTANTS = {
    "s": np.float32(0.5),
    "z": np.array(3, np.uint8),
    "t": np.float32(0.25),
    "bias": np.arange(4, dtype=np.float32),
    "low": np.float32(-1),
    "high": np.float32(2),
    "one": np.ones((1, 1), np.float32),
}


def graph_of(*nodes, opset=17):
    proto = model(list(nodes), [info("x", "b", 4), info("q", "b", 4, kind=UINT8)], [info("y")], CONSTANTS, opset=opset)
    return ir.from_proto(proto).graph


def test_an_operator_reads_the_bytes_behind_a_dequantisation_and_the_bias_after_it():
    graph = graph_of(node("DequantizeLinear", ["q", "s", "z"], ["f"]), node("Add", ["f", "bias"], ["y"]))
    source = Context().source(graph[1].outputs[0])
    assert (source.x.name, source.dtype) == ("q", np.uint8)
    np.testing.assert_array_equal(source.bias, CONSTANTS["bias"])
    quantisation = source.rows.quantisation
    assert (quantisation.scale, quantisation.zero_point) == (0.5, 3)


def test_an_ending_takes_bounds_and_one_quantisation_unless_they_are_taken():
    nodes = [
        node("Neg", ["x"], ["a"]),
        node("Clip", ["a", "low"], ["b"]),
        node("Clip", ["b", "", "high"], ["c"]),
        node("QuantizeLinear", ["c", "s", "z"], ["y"]),
    ]
    graph = graph_of(*nodes)
    end = Context().ending(graph[0])
    assert [each.op_type for each in end.absorbed] == ["Neg", "Clip", "Clip", "QuantizeLinear"]
    assert (end.low, end.high, end.dtype, end.quantised.zero_point) == (-1, 2, np.uint8, 3)
    assert len(Context().ending(graph[0], clips=False).absorbed) == 1
    assert Context().ending(graph[0], quantises=False).quantised is None
    assert len(Context(taken={graph[1]}).ending(graph[0]).absorbed) == 1


@pytest.mark.parametrize(("scale", "is_inverse"), [("s", True), ("t", False)])
def test_a_passage_works_on_bytes_only_between_equal_quantisations(scale, is_inverse):
    graph = graph_of(
        node("DequantizeLinear", ["q", "s", "z"], ["f"]),
        node("Flatten", ["f"], ["g"]),
        node("QuantizeLinear", ["g", scale, "z"], ["y"]),
    )
    passage = Context(dtypes={graph[0].outputs[0]: np.dtype(np.float32)}).passage(graph[1])
    expected = ("q", "y", np.uint8) if is_inverse else ("f", "g", np.float32)
    assert (passage.x.name, passage.y.name, passage.dtype) == expected


def test_a_number_must_leave_the_other_operand_its_axes():
    graph = graph_of(node("Mul", ["x", "one"], ["y"]))
    x, one = graph[0].inputs
    assert Context().number(one, x) is None
    assert Context({x: 2}).number(one, x) == 1


@pytest.mark.parametrize(("opset", "axis", "rank", "expected"), [(13, None, None, True), (11, None, 3, False)])
def test_the_last_axis_of_a_softmax_depends_on_the_opset(opset, axis, rank, expected):
    attributes = {} if axis is None else {"axis": axis}
    graph = graph_of(node("Softmax", ["x"], ["y"], **attributes), opset=opset)
    assert is_along_last_axis(graph[0], rank) is expected
    assert is_along_last_axis(graph[0], 2)
