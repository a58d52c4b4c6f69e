"""The normal form is the same for a dense layer and its compressed twin; what does not qualify says why."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from sparse_rt.errors import FormatError, ModelError
from sparse_rt.graph import model_io
from sparse_rt.graph.layers.find import find_layers
from sparse_rt.graph.passes.compress import compress
from tests.graph import models
from tests.graph.passes.test_compress import gemm, qlinear_matmul


def only(proto):
    (layer,) = find_layers(model_io.read(proto))
    return layer


def twins():
    weight = models.two_four(0, (8, 12))
    integers = models.two_four(0, (8, 12), np.int8)
    scale = np.linspace(0.01, 0.02, 8).astype(np.float32)
    yield "conv", models.conv_model(models.two_four(0, (8, 6, 3, 2)), pads=[1, 0, 0, 2], strides=[2, 1])
    yield "conv without bias", models.conv_model(models.two_four(0, (8, 6, 3)), bias=False)
    transposed = models.two_four(0, (8, 6, 3, 3)).swapaxes(0, 1).copy()
    yield (
        "conv transpose",
        models.conv_model(transposed, op_type="ConvTranspose", output_padding=[1, 1], strides=[2, 2]),
    )
    yield "matmul", models.matmul_model(weight)
    yield "gemm", gemm(weight, False, np.ones(8, np.float32), alpha=0.5)
    yield "gemm transB", gemm(weight, True)
    yield "qdq", models.qdq(integers.T.copy(), scale, np.zeros(8, np.int8), axis={"axis": 1})
    yield "qdq without zero point", models.qdq(integers.T.copy(), np.float32(0.01), None, axis={})
    yield "qlinear right", qlinear_matmul(integers, "right")
    yield "qlinear left", qlinear_matmul(integers, "left")


@pytest.mark.parametrize("dense", [pytest.param(proto, id=name) for name, proto in twins()])
def test_dense_and_compressed_are_twins(dense):
    a, b = only(dense), only(compress(dense))
    same = ("name", "op_type", "kind", "form", "constant_side", "shape", "dtype", "attributes", "reason", "eligible")
    for field in same:
        assert getattr(a, field) == getattr(b, field), field
    for field in ("x", "y", "bias", "x_scale", "x_zero_point", "y_scale", "y_zero_point"):
        values = getattr(a, field), getattr(b, field)
        assert len({None if value is None else value.name for value in values}) == 1, field
    for field in ("weight_scale", "weight_zero_point"):
        np.testing.assert_array_equal(getattr(a, field), getattr(b, field))
    assert (a.stored, b.weight) == (None, None)
    np.testing.assert_array_equal(a.dense_weight(), b.dense_weight())
    np.testing.assert_array_equal(a.compressed.values, b.stored.values)
    np.testing.assert_array_equal(a.compressed.index, b.stored.index)


def test_conv_defaults():
    layer = only(models.conv_model(models.two_four(0, (8, 6, 3, 2))))
    assert (layer.kind, layer.form, layer.shape, layer.dtype) == ("conv", "float", (8, 6, 3, 2), np.float32)
    assert dict(layer.attributes) == {
        "auto_pad": "NOTSET",
        "dilations": (1, 1),
        "group": 1,
        "kernel_shape": (3, 2),
        "pads": (0, 0, 0, 0),
        "strides": (1, 1),
    }


def test_gemm_defaults():
    layer = only(gemm(models.two_four(0, (8, 12)), True))
    assert dict(layer.attributes) == {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 1}


def test_canonical_orientation():
    weight = models.two_four(0, (8, 6, 3, 3))
    dense = models.conv_model(weight.swapaxes(0, 1).copy(), op_type="ConvTranspose")
    np.testing.assert_array_equal(only(dense).dense_weight(), weight)
    matrix = models.two_four(0, (8, 12))
    np.testing.assert_array_equal(only(models.matmul_model(matrix)).dense_weight(), matrix)
    np.testing.assert_array_equal(only(gemm(matrix, False)).dense_weight(), matrix)


def reason(proto):
    layer = only(proto)
    assert layer.compressed is None
    return layer.reason, layer.eligible


def dense_reasons():
    random = np.random.default_rng(0)
    full = random.standard_normal((8, 8)).astype(np.float32)
    yield "not 2:4: 4 nonzeros in row 0, columns 0..3", True, models.matmul_model(full)
    one = models.two_four(0, (8, 8))
    one[3, 4:7] = 1
    yield "not 2:4: 3 nonzeros in row 3, columns 4..7", True, models.matmul_model(one)
    yield "2 groups", False, models.conv_model(models.two_four(0, (8, 8, 3, 3)), group=2)
    yield "4 input channels", False, models.conv_model(models.two_four(0, (8, 4, 3, 3)))
    yield "4 input channels", False, models.matmul_model(models.two_four(0, (8, 4)))
    yield "5 axes", False, models.conv_model(models.two_four(0, (8, 8, 3, 3, 3)), size=(5, 5, 5))
    yield "double", False, models.matmul_model(models.two_four(0, (8, 8), np.float64), dtype=np.float64)
    batched = models.model(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [models.info("x", [2, 3, 8])],
        [models.info("y", [2, 3, 8])],
        {"w": np.zeros((2, 8, 8), np.float32)},
    )
    yield "3 axes", False, batched
    products = models.model(
        [helper.make_node("MatMul", ["x", "z"], ["y"])],
        [models.info("x", [3, 8]), models.info("z", [8, 2])],
        [models.info("y", [3, 2])],
        {},
    )
    yield "not constant", False, products
    node = helper.make_node("Gemm", ["x", "w"], ["y"], transA=1)
    turned = models.model(
        [node], [models.info("x", [8, 3])], [models.info("y", [3, 8])], {"w": np.zeros((8, 8), np.float32)}
    )
    yield "transA", False, turned
    narrow = helper.make_node("MatMulInteger", ["x", "w"], ["y"])
    narrow = models.model(
        [narrow],
        [models.info("x", [3, 5], np.uint8)],
        [models.info("y", [3, 8], np.int32)],
        {"w": np.zeros((5, 8), np.int8)},
    )
    yield "compressed it would take 40 bytes, dense it takes 40", False, narrow
    integers = models.two_four(0, (8, 12), np.int8)
    per_row = np.linspace(0.01, 0.02, 12).astype(np.float32)
    yield "do not run along", False, models.qdq(np.zeros((12, 12), np.int8), per_row, None, axis={"axis": 0})
    yield "zero point is not 0", False, models.qdq(integers.T.copy(), np.float32(0.01), np.int8(1), axis={})
    blocks = np.full((3, 8), 0.01, np.float32)
    yield (
        "have shape (3, 8)",
        False,
        models.qdq(integers.T.copy(), blocks, None, axis={"axis": 0, "block_size": 4}, opset=21),
    )
    bfloat = models.matmul_model(models.two_four(0, (8, 8)))
    bfloat.graph.initializer[0].CopyFrom(helper.make_tensor("w", TensorProto.BFLOAT16, [8, 8], [0.0] * 64))
    for value in (bfloat.graph.input[0], bfloat.graph.output[0]):
        value.type.tensor_type.elem_type = TensorProto.BFLOAT16
    yield "bfloat16", False, bfloat


@pytest.mark.parametrize(("text", "eligible", "proto"), list(dense_reasons()))
def test_reasons(text, eligible, proto):
    why, could = reason(proto)
    assert text in why
    assert could is eligible


def test_a_scale_that_is_not_constant():
    dense = models.qdq(models.two_four(0, (8, 12), np.int8).T.copy(), np.float32(0.01), np.int8(0), axis={})
    kept = [tensor for tensor in dense.graph.initializer if tensor.name != "ws"]
    del dense.graph.initializer[:]
    dense.graph.initializer.extend(kept)
    dense.graph.input.append(models.info("ws", []))
    assert reason(dense) == ("the weight's scale is not constant", False)


def corrupt(name, array):
    proto = compress(models.matmul_model(models.two_four(0, (8, 16))))
    for tensor in proto.graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(numpy_helper.from_array(array, name))
    return proto


@pytest.mark.parametrize(
    ("name", "array", "text"),
    [
        ("w.compress_index", np.full((8, 2), 3, np.uint8), "index in {0, 1, 2}"),
        ("w.compress_index", np.zeros((8, 3), np.uint8), "(8, 2)"),
        ("w.compress_index", np.zeros((8, 2), np.int8), "uint8"),
        ("w.filter_compress", np.zeros((8, 7), np.float32), "(8, 8)"),
        ("w.filter_compress", np.zeros((7, 8), np.float32), "(8, 8)"),
    ],
)
def test_corrupt_tensors(name, array, text):
    with pytest.raises(FormatError) as error:
        find_layers(model_io.read(corrupt(name, array)))
    assert text in str(error.value)
    assert "layer" in str(error.value)


@pytest.mark.parametrize("shape", [[16, 9], [-16, 8], [16], [2**40, 2**40], []])
def test_lying_shape(shape):
    proto = compress(models.matmul_model(models.two_four(0, (8, 16))))
    for attribute in proto.graph.node[0].attribute:
        if attribute.name == "filter_shape":
            attribute.t.CopyFrom(numpy_helper.from_array(np.array(shape, np.int64)))
    with pytest.raises(FormatError, match="layer 'layer'"):
        find_layers(model_io.read(proto))


def test_unknown_operator():
    proto = compress(models.matmul_model(models.two_four(0, (8, 16))))
    proto.graph.node[0].op_type = "MatMulV2Compress_Later"
    with pytest.raises(ModelError, match="MatMulV2Compress_Later"):
        find_layers(model_io.read(proto))


def test_no_shape():
    proto = compress(models.matmul_model(models.two_four(0, (8, 16))))
    kept = [attribute for attribute in proto.graph.node[0].attribute if attribute.name != "filter_shape"]
    del proto.graph.node[0].attribute[:]
    proto.graph.node[0].attribute.extend(kept)
    with pytest.raises(ModelError, match="filter_shape"):
        find_layers(model_io.read(proto))
