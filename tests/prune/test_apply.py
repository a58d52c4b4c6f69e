"""One-shot magnitude pruning of models."""

import numpy as np
import pytest
from onnx import helper, numpy_helper

from sparse_rt.errors import ConfigError, PatternError
from sparse_rt.graph import model_io
from sparse_rt.graph.passes.compress import compress, compress_model
from sparse_rt.prune import prune, prune_model
from tests import naive
from tests.graph import models


def weight(shape, dtype=np.float32):
    random = np.random.default_rng(0)
    if np.issubdtype(dtype, np.integer):
        return random.integers(-128, 128, shape).astype(dtype)
    return random.standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("shape", [(8, 6, 3, 3), (8, 9, 2), (8, 8, 1, 1)])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_conv(shape, dtype):
    dense = weight(shape, dtype)
    pruned = models.initializer(prune(models.conv_model(dense)), "w")
    np.testing.assert_array_equal(pruned, np.where(naive.magnitude_mask(dense), dense, 0))


def test_matmul_and_transposed_storage():
    dense = weight((10, 13))
    expected = np.where(naive.magnitude_mask(dense), dense, 0)
    np.testing.assert_array_equal(models.initializer(prune(models.matmul_model(dense)), "w"), expected.T)
    swapped = models.conv_model(weight((6, 8, 3, 3)), op_type="ConvTranspose")
    original = models.initializer(swapped, "w").swapaxes(0, 1)
    pruned = models.initializer(prune(swapped), "w").swapaxes(0, 1)
    np.testing.assert_array_equal(pruned, np.where(naive.magnitude_mask(original), original, 0))


def test_integer_weights():
    dense = weight((8, 12), np.int8)
    model = models.qdq(dense.T.copy(), np.float32(0.01), np.int8(0), axis={})
    expected = np.where(naive.magnitude_mask(dense), dense, 0)
    np.testing.assert_array_equal(models.initializer(prune(model), "w"), expected.T)


def test_then_compress_everything():
    proto = models.conv_model(weight((16, 16, 3, 3)))
    before = proto.SerializeToString()
    result = prune_model(model_io.read(proto))
    assert proto.SerializeToString() == before
    report = result.layers[0]
    assert (report.density_before, report.density_after, report.reason) == (1.0, 0.5, None)
    assert 0.5 < report.magnitude_kept < 1
    assert compress_model(result.model).layers[0].reason is None


def test_a_pruned_or_compressed_model_stays():
    proto = models.conv_model(models.two_four(0, (8, 8, 3, 3)))
    np.testing.assert_array_equal(models.initializer(prune(proto), "w"), models.initializer(proto, "w"))
    assert prune_model(model_io.read(proto)).layers[0].magnitude_kept == 1.0
    compressed = compress(proto)
    assert prune(compressed).SerializeToString() == compressed.SerializeToString()


@pytest.mark.parametrize(
    "proto", [models.conv_model(weight((8, 4, 3, 3))), models.conv_model(weight((8, 8, 3, 3)), group=2)]
)
def test_what_cannot_qualify_is_not_touched(proto):
    np.testing.assert_array_equal(models.initializer(prune(proto), "w"), models.initializer(proto, "w"))


def test_a_weight_that_others_read_is_not_touched():
    proto = models.matmul_model(weight((8, 8)))
    proto.graph.node.append(helper.make_node("Gather", ["w", "ids"], ["rows"], name="embedding"))
    proto.graph.input.append(models.info("ids", [2], np.int64))
    proto.graph.output.append(models.info("rows", [2, 8]))
    result = prune_model(model_io.read(proto))
    assert "read by 'embedding'" in result.layers[0].reason
    np.testing.assert_array_equal(
        models.initializer(model_io.to_proto(result.model), "w"), models.initializer(proto, "w")
    )


def test_constant_node():
    dense = weight((10, 12))
    nodes = [
        helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(dense)),
        helper.make_node("Transpose", ["w"], ["wt"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", "wt"], ["y"], name="layer"),
    ]
    proto = models.model(nodes, [models.info("x", ["n", 12])], [models.info("y", ["n", 10])], {})
    before = proto.SerializeToString()
    pruned = prune(proto)
    assert proto.SerializeToString() == before
    expected = np.where(naive.magnitude_mask(dense), dense, 0)
    np.testing.assert_array_equal(numpy_helper.to_array(pruned.graph.node[0].attribute[0].t), expected)


def test_other_patterns():
    proto = models.matmul_model(weight((8, 8)))
    with pytest.raises(ConfigError, match="2:4"):
        prune(proto, "1:4")
    with pytest.raises(PatternError):
        prune(proto, "two of four")
