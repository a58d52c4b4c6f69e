"""The nodes of a chain, in the order of its docstring."""

import onnx_ir as ir
import pytest

from sparse_rt.graph.decode.body import Body
from sparse_rt.graph.neighbours.nodes import after_operator, before_operator, dequantize_axis
from sparse_rt.graph.neighbours.record import Neighbours

INPUTS = {
    name: ir.val(name)
    for name in (
        *("x", "x_scale", "x_zero_point", "bias", "bias_scale", "bias_zero_point", "low", "high", "residual"),
        *("y_scale", "y_zero_point"),
    )
}


def written(body):
    return [(node.op_type, [value.name for value in node.inputs]) for node in body.nodes]


@pytest.mark.parametrize(("opset", "axis"), [(12, None), (13, 0)])
def test_before(opset, axis):
    body = Body(opset)
    found = before_operator(body, Neighbours(x=True, bias=True), INPUTS, opset)
    assert written(body) == [
        ("DequantizeLinear", ["x", "x_scale", "x_zero_point"]),
        ("DequantizeLinear", ["bias", "bias_scale", "bias_zero_point"]),
    ]
    assert found == {"x": body.nodes[0].outputs[0], "bias": body.nodes[1].outputs[0]}
    assert [node.attributes.get_int("axis", None) for node in body.nodes] == [None, axis]
    assert dequantize_axis(opset, 1) == ({} if axis is None else {"axis": 1})


@pytest.mark.parametrize(
    ("addition", "operands"),
    [
        ("plus_bias", ["y", "bias"]),
        ("bias_plus", ["bias", "y"]),
        ("plus_residual", ["y", "residual"]),
        ("residual_plus", ["residual", "y"]),
    ],
)
def test_addition(addition, operands):
    body = Body(17)
    after_operator(body, Neighbours(addition=addition), INPUTS, ir.val("y"))
    assert written(body) == [("Add", operands)]


def test_after():
    body = Body(17)
    y = after_operator(body, Neighbours(x=True, activation="clip", y=True), INPUTS, ir.val("y"))
    assert [node.op_type for node in body.nodes] == ["Clip", "QuantizeLinear"]
    assert [value.name for value in body.nodes[0].inputs] == ["y", "low", "high"]
    assert body.nodes[1].inputs[0] is body.nodes[0].outputs[0]
    assert y is body.nodes[1].outputs[0]


def test_alone():
    body, y = Body(17), ir.val("y")
    assert before_operator(body, Neighbours(), INPUTS, 17) == {}
    assert after_operator(body, Neighbours(), INPUTS, y) is y
    assert not body.nodes
