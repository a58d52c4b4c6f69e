"""Compressed models run in stock onnxruntime, and nothing there can tell them from the dense ones."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import sparse_rt
from sparse_rt.errors import ConfigError
from sparse_rt.graph import model_io
from sparse_rt.graph.passes import compress as compress_module
from sparse_rt.graph.passes.compress import compress, compress_model
from tests import naive
from tests.graph import models

LATEST_IN_ONNXRUNTIME = 26
OPSETS = (11, 12, 13, 14, 17, 18, 21, 23, LATEST_IN_ONNXRUNTIME)


def compress_all(dense, folder, variant):
    """Compress, judge, and return the compressed model; every layer is compressed as `variant`."""
    before = dense.SerializeToString()
    compressed = compress(dense)
    assert dense.SerializeToString() == before
    assert {kind for _, kind in models.operators(compressed)} == {variant}
    onnx.checker.check_model(compressed, full_check=True)
    models.assert_same_in_onnxruntime(dense, compressed, folder)
    return compressed


@pytest.mark.parametrize("opset", OPSETS)
def test_opsets(opset, tmp_path):
    if opset > onnx.defs.onnx_opset_version():
        pytest.skip(f"onnx {onnx.__version__} does not know opset {opset}")
    compress_all(models.conv_model(models.two_four(0, (12, 10, 3, 3)), opset, pads=[1] * 4), tmp_path, "Conv")
    compress_all(models.matmul_model(models.two_four(1, (12, 16)), opset), tmp_path, "MatMul")


def test_old_opset_stays_dense():
    result = compress_model(model_io.read(models.matmul_model(models.two_four(0, (8, 8)), opset=10)))
    assert "opset is 10" in result.layers[0].reason
    assert models.operators(model_io.to_proto(result.model)) == []


@pytest.mark.parametrize("k", [7, 8, 9, 12, 31, 32, 33, 64])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_ragged_k(k, dtype, tmp_path):
    variant = "MatMul_float16" if dtype is np.float16 else "MatMul"
    compress_all(models.matmul_model(models.two_four(k, (6, k), dtype), dtype=dtype), tmp_path, variant)


@pytest.mark.parametrize(
    ("shape", "attributes"),
    [
        ((8, 6, 1, 1), {}),
        ((8, 5, 3, 3), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
        ((8, 6, 3, 2), {"auto_pad": "SAME_LOWER"}),
        ((8, 6, 3, 3), {"auto_pad": "VALID", "dilations": [2, 1]}),
        ((8, 9, 5, 3), {"pads": [1, 2, 0, 1], "strides": [2, 1], "kernel_shape": [5, 3]}),
        ((8, 6, 3), {"pads": [1, 1]}),
        ((8, 7, 4), {"strides": [2], "dilations": [2]}),
    ],
)
@pytest.mark.parametrize("bias", [True, False])
def test_conv(shape, attributes, bias, tmp_path):
    compress_all(models.conv_model(models.two_four(0, shape), bias=bias, **attributes), tmp_path, "Conv")


@pytest.mark.parametrize(
    ("shape", "attributes"),
    [
        ((8, 6, 3, 3), {"strides": [2, 2]}),
        ((8, 6, 3, 3), {"strides": [2, 2], "output_padding": [1, 0], "pads": [1, 0, 1, 1]}),
        ((8, 5, 2, 3), {"strides": [2, 3], "output_shape": [18, 24]}),
        ((8, 6, 3, 3), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
        ((8, 6, 4), {"strides": [3], "dilations": [2]}),
    ],
)
def test_conv_transpose(shape, attributes, tmp_path):
    weight = models.two_four(0, shape).swapaxes(0, 1).copy()
    dense = models.conv_model(weight, op_type="ConvTranspose", **attributes)
    compressed = compress_all(dense, tmp_path, "ConvTranspose")
    assert models.operators(compressed)[0][0] == "Conv2DTransposeDCompress"


@pytest.mark.parametrize("leading", [(), ("batch",), ("batch", 3), ("a", 2, 3)])
def test_matmul_of_any_rank(leading, tmp_path):
    compress_all(models.matmul_model(models.two_four(0, (10, 12)), x_shape=(*leading, "k")), tmp_path, "MatMul")


@pytest.mark.parametrize("leading", [(), ("batch", 3)])
def test_matmul_with_the_constant_on_the_left(leading, tmp_path):
    node = helper.make_node("MatMul", ["w", "x"], ["y"], name="layer")
    weight = models.two_four(0, (10, 12))
    dense = models.model(
        [node], [models.info("x", [*leading, 12, 5])], [models.info("y", [*leading, 10, 5])], {"w": weight}
    )
    compress_all(dense, tmp_path, "MatMul_left")


def gemm(weight, trans_b, bias=None, **attributes):
    operand = weight if trans_b else weight.T.copy()
    inputs = ["x", "w"] + (["b"] if bias is not None else [])
    node = helper.make_node("Gemm", inputs, ["y"], name="layer", transB=int(trans_b), **attributes)
    constants = {"w": operand} | ({"b": bias} if bias is not None else {})
    n, k = weight.shape
    return models.model([node], [models.info("x", ["batch", k])], [models.info("y", ["batch", n])], constants)


@pytest.mark.parametrize("trans_b", [True, False])
@pytest.mark.parametrize("attributes", [{}, {"alpha": 0.5, "beta": 2.0}])
@pytest.mark.parametrize("bias", [None, (10,), (1, 10), (1,), (2, 1)])
def test_gemm(trans_b, attributes, bias, tmp_path):
    array = None if bias is None else np.random.default_rng(1).standard_normal(bias).astype(np.float32)
    dense = gemm(models.two_four(0, (10, 12)), trans_b, array, **attributes)
    compress_all(dense, tmp_path, "Gemm_transB" if trans_b else "Gemm")


@pytest.mark.parametrize("opset", [13, 17, 21])
@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("zero_point", [True, False])
def test_qdq_matmul(opset, per_channel, zero_point, tmp_path):
    weight = models.two_four(0, (10, 12), np.int8)
    scale = np.linspace(0.01, 0.02, 10).astype(np.float32) if per_channel else np.float32(0.01)
    zero = np.zeros_like(scale, np.int8) if zero_point else None
    dense = models.qdq(weight.T.copy(), scale, zero, axis={"axis": 1} if per_channel else {}, opset=opset)
    compressed = compress_all(dense, tmp_path, "MatMul_qdq_x_y" if zero_point else "MatMul_qdq")
    assert [node.op_type for node in compressed.graph.node if node.domain == ""] == [
        "QuantizeLinear",
        "DequantizeLinear",
    ]


def test_qdq_at_opset_11_has_one_scale(tmp_path):
    weight = models.two_four(0, (10, 12), np.int8)
    compress_all(
        models.qdq(weight.T.copy(), np.float32(0.01), np.int8(0), axis={}, opset=11), tmp_path, "MatMul_qdq_x_y"
    )


def test_weight_seen_through_dequantize_and_transpose():
    weight = models.two_four(0, (10, 12), np.int8)
    scale = np.linspace(0.01, 0.02, 10).astype(np.float32)
    dense = models.qdq(weight, scale, np.zeros(10, np.int8), axis={"axis": 0}, transpose=True)
    compressed = compress(dense)
    assert models.operators(compressed) == [("MatMulV2Compress", "MatMul_qdq_x_y")]
    assert all(node.op_type != "Transpose" for node in compressed.graph.node)
    inputs = models.feeds(dense)
    np.testing.assert_array_equal(models.run(dense, inputs)[0], models.run(compressed, inputs)[0])


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("x_dtype", [np.uint8, np.int8])
def test_matmul_integer(side, per_channel, x_dtype, tmp_path):
    weight = models.two_four(0, (10, 12), np.int8)
    zero = np.zeros(10 if per_channel else (), np.int8)
    constants = {"xz": np.asarray(x_dtype(3)), "wz": zero}
    if side == "right":
        node = helper.make_node("MatMulInteger", ["x", "w", "xz", "wz"], ["y"], name="layer")
        shapes, constants["w"] = ([4, 12], [4, 10]), weight.T.copy()
    else:
        if x_dtype is np.int8 or per_channel:
            pytest.skip("no kernel in onnxruntime")
        node = helper.make_node("MatMulInteger", ["w", "x", "wz", "xz"], ["y"], name="layer")
        shapes, constants["w"] = ([12, 5], [10, 5]), weight
    dense = models.model(
        [node], [models.info("x", shapes[0], x_dtype)], [models.info("y", shapes[1], np.int32)], constants
    )
    compress_all(dense, tmp_path, "MatMulInteger" if side == "right" else "MatMulInteger_left")


def qlinear_matmul(weight, side):
    """A QLinearMatMul with the constant on either side."""
    x, w = ["x", "xs", "xz"], ["w", "ws", "wz"]
    inputs = [*x, *w] if side == "right" else [*w, *x]
    node = helper.make_node("QLinearMatMul", [*inputs, "ys", "yz"], ["y"], name="layer")
    n, k = weight.shape
    constants = {
        "xs": np.float32(0.02),
        "xz": np.int8(3),
        "w": weight.T.copy() if side == "right" else weight,
        "ws": np.float32(0.01),
        "wz": np.int8(0),
        "ys": np.float32(0.1),
        "yz": np.int8(4),
    }
    shapes = ([4, k], [4, n]) if side == "right" else ([k, 5], [n, 5])
    constants = {name: np.asarray(value) for name, value in constants.items()}
    return models.model(
        [node], [models.info("x", shapes[0], np.int8)], [models.info("y", shapes[1], np.int8)], constants
    )


@pytest.mark.parametrize("side", ["right", "left"])
def test_qlinear_matmul(side, tmp_path):
    dense = qlinear_matmul(models.two_four(0, (10, 12), np.int8), side)
    compress_all(dense, tmp_path, "QLinearMatMul" if side == "right" else "QLinearMatMul_left")


@pytest.mark.parametrize("trans_b", [0, 1])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("float_out", [True, False])
def test_qgemm(trans_b, bias, float_out, tmp_path):
    weight = models.two_four(0, (10, 12), np.int8)
    inputs = ["x", "xs", "xz", "w", "ws", "wz", "b" if bias else "", *([] if float_out else ["ys", "xz"])]
    node = helper.make_node("QGemm", inputs, ["y"], domain="com.microsoft", name="layer", transB=trans_b)
    constants = {
        "xs": np.asarray(np.float32(0.02)),
        "xz": np.asarray(np.uint8(128)),
        "w": weight if trans_b else weight.T.copy(),
        "ws": np.linspace(0.01, 0.02, 10).astype(np.float32),
        "wz": np.zeros(10, np.int8),
        "b": np.arange(10, dtype=np.int32),
        "ys": np.asarray(np.float32(0.1)),
    }
    out = models.info("y", ["batch", 10], np.float32 if float_out else np.uint8)
    dense = models.model(
        [node], [models.info("x", ["batch", 12], np.uint8)], [out], constants, domains=["com.microsoft"]
    )
    compressed = compress(dense)
    assert models.operators(compressed) == [("FullyConnectionCompress", "QGemm_transB" if trans_b else "QGemm")]
    models.assert_same_in_onnxruntime(dense, compressed, tmp_path)


@pytest.mark.parametrize(
    ("dtype", "shape", "limit"), [(np.float32, (16, 64, 3, 3), 0.532), (np.int8, (16, 64, 3, 3), 0.625)]
)
def test_bytes(dtype, shape, limit):
    weight = models.two_four(0, shape, dtype)
    dense = models.conv_model(weight)
    if dtype is np.int8:
        node = helper.make_node("ConvInteger", ["x", "w"], ["y"], name="layer")
        x, y = models.info("x", ["batch", 64, 9, 8], np.uint8), models.info("y", ["batch", 16, 7, 6], np.int32)
        dense = models.model([node], [x], [y], {"w": weight})
    result = compress_model(model_io.read(dense))
    report = result.layers[0]
    proto = model_io.to_proto(result.model)
    stored = sum(models.initializer(proto, name).nbytes for name in ("w.filter_compress", "w.compress_index"))
    assert report.compressed_bytes == stored <= limit * weight.nbytes
    assert (report.dense_bytes, report.pattern, report.reason) == (weight.nbytes, "2:4", None)
    assert report.density == np.count_nonzero(weight) / weight.size
    assert "w" not in {tensor.name for tensor in proto.graph.initializer}


def test_the_bytes_in_the_file_are_the_canonical_ones():
    weight = models.two_four(0, (6, 7, 2, 3))
    proto = compress(models.conv_model(weight))
    values, index = naive.encode_matrix(naive.weight_matrix(weight))
    np.testing.assert_array_equal(models.initializer(proto, "w.filter_compress"), values)
    np.testing.assert_array_equal(models.initializer(proto, "w.compress_index"), index)


def test_sparsity_0_is_a_copy():
    dense = models.conv_model(models.two_four(0, (8, 8, 3, 3)))
    copy = compress(dense, sparsity=0)
    assert models.operators(copy) == []
    np.testing.assert_array_equal(models.initializer(copy, "w"), models.initializer(dense, "w"))
    assert compress_model(model_io.read(dense), 0).layers[0].reason == "sparsity is 0"


@pytest.mark.parametrize("sparsity", [2, -1, 0.5])
def test_sparsity_is_0_or_1(sparsity):
    with pytest.raises(ConfigError, match="expected 0 or 1"):
        compress(models.conv_model(models.two_four(0, (8, 8, 3, 3))), sparsity)


def test_compressing_twice_changes_nothing():
    once = compress(models.conv_model(models.two_four(0, (8, 8, 3, 3))))
    result = compress_model(model_io.read(once))
    assert model_io.to_proto(result.model).SerializeToString() == once.SerializeToString()
    assert (result.layers[0].pattern, result.layers[0].reason) == ("2:4", None)


def test_a_layer_added_to_a_compressed_model(tmp_path):
    once = compress(models.matmul_model(models.two_four(0, (8, 8))))
    node = helper.make_node("Gemm", ["y", "w2"], ["z"], name="second")
    once.graph.node.append(node)
    once.graph.initializer.append(numpy_helper.from_array(models.two_four(1, (8, 8)).T.copy(), "w2"))
    once.graph.output.append(models.info("z", ["batch", 8]))
    twice = compress(once)
    assert models.operators(twice) == [("MatMulV2Compress", "MatMul"), ("FullyConnectionCompress", "Gemm")]
    models.assert_same_in_onnxruntime(once, twice, tmp_path)


def test_names_shapes_and_metadata_survive():
    dense = models.conv_model(models.two_four(0, (8, 8, 3, 3)))
    dense.graph.output[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    dense.producer_name, dense.doc_string = "tests", "a model"
    helper.set_model_props(dense, {"task": "none"})
    dense.graph.node[0].doc_string = "a layer"
    compressed = compress(dense)
    assert [v.SerializeToString() for v in compressed.graph.input] == [v.SerializeToString() for v in dense.graph.input]
    assert [v.SerializeToString() for v in compressed.graph.output] == [
        v.SerializeToString() for v in dense.graph.output
    ]
    assert (compressed.producer_name, compressed.doc_string) == ("tests", "a model")
    metadata = {p.key: p.value for p in compressed.metadata_props}
    assert metadata == {"task": "none", "sparse_rt_version": sparse_rt.__version__}
    assert compressed.ir_version == dense.ir_version == 8
    assert (compressed.graph.node[0].name, compressed.graph.node[0].doc_string) == ("layer", "a layer")
    assert {i.domain: i.version for i in compressed.opset_import} == {"": 17, "sparse_rt": 1}


def test_value_info_in_the_middle_survives(tmp_path):
    w = models.two_four(0, (8, 8)).T.copy()
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], name="first"),
        helper.make_node("MatMul", ["h", "w"], ["y"], name="second"),
    ]
    dense = models.model(nodes, [models.info("x", ["n", 8])], [models.info("y", ["n", 8])], {"w": w})
    dense.graph.value_info.append(models.info("h", ["n", 8]))
    compressed = compress(dense)
    assert [v.name for v in compressed.graph.value_info] == ["h"]
    # One weight, two readers: compressed once.
    assert len(compressed.graph.initializer) == 2
    models.assert_same_in_onnxruntime(dense, compressed, tmp_path)


def test_a_weight_that_is_an_output_stays(tmp_path):
    dense = models.matmul_model(models.two_four(0, (8, 8)))
    dense.graph.output.append(models.info("w", [8, 8]))
    result = compress_model(model_io.read(dense))
    assert "also an output of the graph" in result.layers[0].reason
    models.assert_same_in_onnxruntime(dense, model_io.to_proto(result.model), tmp_path)


def test_a_weight_that_a_dense_node_reads_stays():
    dense = models.matmul_model(models.two_four(0, (8, 8)))
    dense.graph.node.append(helper.make_node("Gather", ["w", "ids"], ["rows"], name="embedding"))
    dense.graph.input.append(models.info("ids", [2], np.int64))
    dense.graph.output.append(models.info("rows", [2, 8]))
    result = compress_model(model_io.read(dense))
    assert "read by 'embedding'" in result.layers[0].reason
    assert models.operators(model_io.to_proto(result.model)) == []


def test_a_weight_read_in_two_orientations_stays():
    weight = np.diag(np.arange(1, 9)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], name="first"),
        helper.make_node("Gemm", ["h", "w"], ["y"], name="second", transB=1),
    ]
    dense = models.model(nodes, [models.info("x", ["n", 8])], [models.info("y", ["n", 8])], {"w": weight})
    assert {"orientations" in layer.reason for layer in compress_model(model_io.read(dense)).layers} == {True}


def test_an_initializer_that_is_an_output_survives(tmp_path):
    dense = models.matmul_model(models.two_four(0, (8, 8)))
    dense.graph.initializer.append(numpy_helper.from_array(np.arange(3, dtype=np.float32), "extra"))
    dense.graph.output.append(models.info("extra", [3]))
    models.assert_same_in_onnxruntime(dense, compress(dense), tmp_path)


def test_constant_node_and_links(tmp_path):
    weight = models.two_four(0, (10, 12))
    nodes = [
        helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(weight)),
        helper.make_node("Identity", ["w"], ["w1"]),
        helper.make_node("Transpose", ["w1"], ["w2"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", "w2"], ["y"], name="layer"),
    ]
    dense = models.model(nodes, [models.info("x", ["n", 12])], [models.info("y", ["n", 10])], {})
    compressed = compress_all(dense, tmp_path, "MatMul")
    assert [node.op_type for node in compressed.graph.node] == ["MatMulV2Compress_MatMul"]


def test_initializers_as_inputs_in_ir_3(tmp_path):
    dense = models.conv_model(models.two_four(0, (8, 8, 3, 3)))
    dense.ir_version = 3
    for tensor in dense.graph.initializer:
        dense.graph.input.append(models.info(tensor.name, list(tensor.dims)))
    compressed = compress(dense)
    assert [value.name for value in compressed.graph.input] == ["x"]
    assert models.operators(compressed) == [("Conv2DCompress", "Conv")]
    models.assert_same_in_onnxruntime(dense, compressed, tmp_path)


def test_an_initializer_that_callers_may_override_is_no_constant():
    dense = models.matmul_model(models.two_four(0, (8, 8)))
    dense.graph.input.append(models.info("w", [8, 8]))
    assert compress_model(model_io.read(dense)).layers[0].reason == "the weight is not constant"


@pytest.mark.parametrize("condition", [True, False])
def test_subgraphs(condition, tmp_path):
    dense = models.if_model(models.two_four(0, (8, 8)))
    result = compress_model(model_io.read(dense))
    reasons = {layer.name: layer.reason for layer in result.layers}
    assert reasons["outer"] is None
    assert reasons["then_layer"] == reasons["else_layer"] == "inside a subgraph"
    inputs = models.feeds(dense) | {"condition": np.array(condition)}
    models.assert_same_in_onnxruntime(dense, model_io.to_proto(result.model), tmp_path, inputs)


def test_names_that_are_taken():
    dense = models.matmul_model(models.two_four(0, (8, 8)))
    dense.graph.initializer.append(numpy_helper.from_array(np.zeros(8, np.float32), "w.filter_compress"))
    dense.graph.node.append(helper.make_node("Add", ["y", "w.filter_compress"], ["z"]))
    dense.graph.output.append(models.info("z", ["batch", 8]))
    compressed = compress(dense)
    assert "w.filter_compress.1" in {tensor.name for tensor in compressed.graph.initializer}
    inputs = models.feeds(dense)
    for a, b in zip(models.run(dense, inputs), models.run(compressed, inputs), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_model_without_output_shapes():
    dense = models.matmul_model(models.two_four(0, (8, 8)))
    dense.graph.output[0].type.tensor_type.ClearField("shape")
    compressed = compress(dense)
    assert models.operators(compressed) == [("MatMulV2Compress", "MatMul")]
    inputs = models.feeds(dense)
    np.testing.assert_array_equal(models.run(dense, inputs)[0], models.run(compressed, inputs)[0])


def test_local_functions(tmp_path):
    body = helper.make_function(
        "tests",
        "Block",
        ["x", "w"],
        ["y"],
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="inner")],
        [helper.make_opsetid("", 17)],
    )
    weight = models.two_four(0, (8, 8)).T.copy()
    nodes = [
        helper.make_node("Block", ["x", "w"], ["h"], domain="tests"),
        helper.make_node("MatMul", ["h", "w2"], ["y"], name="outer"),
    ]
    x, y = models.info("x", ["n", 8]), models.info("y", ["n", 8])
    dense = models.model(nodes, [x], [y], {"w": weight, "w2": weight}, domains=["tests"], functions=[body])
    result = compress_model(model_io.read(dense))
    reasons = {layer.name: layer.reason for layer in result.layers}
    assert reasons == {"outer": None, "inner": "inside a local function of the model"}
    models.assert_same_in_onnxruntime(dense, model_io.to_proto(result.model), tmp_path)


@pytest.mark.parametrize(("dtype", "limit"), [(np.float32, 8 * 16 * 4), (np.float16, 8 * 16 * 4)])
def test_what_onnxruntime_would_not_fold_stays_dense(dtype, limit, monkeypatch):
    dense = models.matmul_model(models.two_four(0, (8, 12), dtype), dtype=dtype)
    monkeypatch.setattr(compress_module, "FOLDING_LIMIT", limit)
    assert "only below" in compress_model(model_io.read(dense)).layers[0].reason
    monkeypatch.setattr(compress_module, "FOLDING_LIMIT", limit + 1)
    assert compress_model(model_io.read(dense)).layers[0].reason is None
