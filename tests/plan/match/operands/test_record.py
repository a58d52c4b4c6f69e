"""The record of operands says what the kernel is given: for one layer of floats and one of bytes, by hand."""

import numpy as np

from sparse_rt.plan.match.operands.record import Operands
from tests.models.onnx_models import UINT8, info, node, sparse, sparse_int8
from tests.plan.match.operands.of_layer import of_layer


def test_floats_go_in_and_out_and_are_padded_with_zero():
    weight = sparse(np.random.default_rng(0), 8, 16)
    nodes, inputs = [node("Gemm", ["x", "w"], ["y"], transB=1)], [info("x", "m", 16)]
    found = of_layer(nodes, {"w": weight}, inputs, [info("y", "m", 8)])
    assert isinstance(found, Operands)
    assert (found.dtype, found.x_dtype, found.y_dtype, found.pad_value) == ("f32", np.float32, np.float32, 0)
    assert (found.x_zero_point, found.scale, found.requantisation) == (None, None, None)
    np.testing.assert_array_equal(found.weight.decode(), weight)


def test_bytes_are_padded_with_their_zero_point():
    weight = sparse_int8(np.random.default_rng(0), 8, 16)
    held = {"w": weight.T.copy(), "xs": np.float32(0.5), "ws": np.float32(0.25), "ys": np.float32(2)}
    held |= {"xz": np.uint8(7), "wz": np.int8(0), "yz": np.uint8(9)}
    nodes = [node("QLinearMatMul", ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz"], ["y"])]
    found = of_layer(nodes, held, [info("x", "m", 16, kind=UINT8)], [info("y", "m", 8, kind=UINT8)])
    assert isinstance(found, Operands)
    assert (found.dtype, found.x_dtype, found.y_dtype, found.pad_value) == ("u8s8", np.uint8, np.uint8, 7)
    assert (found.x_zero_point, found.scale) == (None, None)
    np.testing.assert_array_equal(found.weight.decode(), weight)
