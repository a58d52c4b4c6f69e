"""The way back from a compressed model: the dense weights, bit for bit, and nothing of ours left."""

import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper

from sparse_rt.graph import model_io
from sparse_rt.graph.operators import VERSION_KEY
from sparse_rt.graph.passes.compress import compress
from sparse_rt.graph.passes.decompress import decompress_model, decompressed_nbytes
from tests.graph import models

DENSE = {
    "matmul": models.matmul_model(models.two_four(0, (8, 12))),
    "conv": models.conv_model(models.two_four(0, (8, 6, 3, 2)), strides=[2, 1]),
    "conv transpose": models.conv_model(
        models.two_four(0, (8, 6, 3, 3)).swapaxes(0, 1).copy(), op_type="ConvTranspose"
    ),
    "qdq": models.qdq(
        models.two_four(0, (8, 12), np.int8).T.copy(),
        np.linspace(0.01, 0.02, 8).astype(np.float32),
        np.zeros(8, np.int8),
        axis={"axis": 1},
    ),
}


@pytest.mark.parametrize("name", DENSE)
def test_outputs_and_weights_are_the_identical_ones(name):
    dense = DENSE[name]
    compressed = model_io.read(compress(dense))
    before = ir.to_proto(compressed).SerializeToString()
    back = model_io.to_proto(decompress_model(compressed))
    assert ir.to_proto(compressed).SerializeToString() == before
    assert sorted(node.op_type for node in back.graph.node) == sorted(node.op_type for node in dense.graph.node)
    np.testing.assert_array_equal(models.initializer(back, "layer.filter"), models.initializer(dense, "w"))
    feeds = models.feeds(dense)
    for ours, theirs in zip(models.run(back, feeds), models.run(dense, feeds), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("name", DENSE)
def test_bytes_are_those_of_the_dense_weight(name):
    expected = models.initializer(DENSE[name], "w").nbytes
    assert decompressed_nbytes(model_io.read(compress(DENSE[name]))) == expected
    assert decompressed_nbytes(model_io.read(DENSE[name])) == 0


def test_a_model_without_compressed_layers_forgets_the_domain():
    back = model_io.to_proto(decompress_model(model_io.read(compress(DENSE["matmul"]))))
    assert "sparse_rt" not in {item.domain for item in (*back.functions, *back.opset_import, *back.graph.node)}
    assert VERSION_KEY not in {entry.key for entry in back.metadata_props}
    assert [tensor.name for tensor in back.graph.initializer] == ["layer.filter"]


def test_layers_that_shared_a_weight_share_it_again():
    nodes = [helper.make_node("MatMul", ["x", "w"], [name], name=f"layer_{name}") for name in "yz"]
    weight = models.two_four(0, (8, 12)).T.copy()
    outputs = [models.info(name, ["m", 8]) for name in "yz"]
    compressed = compress(models.model(nodes, [models.info("x", ["m", 12])], outputs, {"w": weight}))
    assert len(models.operators(compressed)) == 2
    back = model_io.to_proto(decompress_model(model_io.read(compressed)))
    (tensor,) = back.graph.initializer
    assert {node.input[1] for node in back.graph.node} == {tensor.name}
