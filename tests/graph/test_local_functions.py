"""The functions of our domain: what a file may hold there, what it may not, and files of earlier versions."""

import random
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

import sparse_rt as srt
from sparse_rt import stock
from sparse_rt.errors import ModelError, SparseRTWarning
from sparse_rt.graph import model_io
from sparse_rt.graph.fingerprint import fingerprint
from sparse_rt.graph.operators import COMPRESSED
from sparse_rt.graph.passes.compress import compress
from sparse_rt.graph.passes.decompress import decompress_model
from tests.graph import models

DATA = Path(__file__).parent / "data"
QDQ = "Conv2DTransposeDCompress_ConvTranspose_qdq_without_filter_zero_point_without_bias"
SPARSE = srt.SessionOptions(intra_op_num_threads=1, tuning="sparse")


def chain(opset=17):
    """Layers of one family in several forms: with a bias and without, padded and not, of both operands, one in QDQ."""
    node = helper.make_node
    constants = {
        "w0": models.two_four(0, (8, 6, 3, 3)),
        "b0": np.linspace(-1, 1, 8).astype(np.float32),
        "w1": models.two_four(1, (8, 8, 3, 3)),
        "w2": models.two_four(2, (8, 8, 2, 2), np.int8).swapaxes(0, 1).copy(),
        "s2": np.array(0.01, np.float32),
        "w3": models.two_four(3, (12, 8)).T.copy(),
        "b3": np.linspace(-1, 1, 12).astype(np.float32),
        "w4": models.two_four(4, (10, 12)),
        "w5": models.two_four(5, (8, 10)).T.copy(),
        "w6": models.two_four(6, (12, 8)),
        "w7": models.two_four(7, (8, 12)).T.copy(),
    }
    nodes = [
        node("Conv", ["x", "w0", "b0"], ["a0"], name="conv_padded", pads=[1] * 4),
        node("Tanh", ["a0"], ["a1"]),
        node("Conv", ["a1", "w1"], ["a2"], name="conv_without_bias", pads=[1] * 4),
        node("Tanh", ["a2"], ["a3"]),
        node("DequantizeLinear", ["w2", "s2"], ["f2"]),
        node("ConvTranspose", ["a3", "f2"], ["a4"], name="transposed", strides=[2, 2]),
        node("GlobalAveragePool", ["a4"], ["a5"]),
        node("Flatten", ["a5"], ["a6"]),
        node("Gemm", ["a6", "w3", "b3"], ["a7"], name="gemm"),
        node("Tanh", ["a7"], ["a8"]),
        node("Gemm", ["a8", "w4"], ["a9"], name="gemm_transB", transB=1),
        node("Tanh", ["a9"], ["a10"]),
        node("MatMul", ["a10", "w5"], ["a11"], name="padded"),
        node("Transpose", ["a11"], ["a12"], perm=[1, 0]),
        node("MatMul", ["w6", "a12"], ["a13"], name="left"),
        node("Tanh", ["a13"], ["a14"]),
        node("Transpose", ["a14"], ["a15"], perm=[1, 0]),
        node("MatMul", ["a15", "w7"], ["y"], name="right"),
    ]
    return models.model(nodes, [models.info("x", ["n", 6, 5, 4])], [models.info("y", ["n", 8])], constants, opset)


@pytest.fixture(scope="module")
def dense():
    return chain()


@pytest.fixture
def compressed(dense):
    return compress(dense)


@pytest.fixture(scope="module")
def feeds(dense):
    return models.feeds(dense)


@pytest.fixture(scope="module")
def expected(dense, feeds):
    return models.run(dense, feeds)[0]


def run(proto, feeds):
    return srt.InferenceSession(proto, SPARSE).run(None, feeds)[0]


def close(y, expected):
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


def function(proto, name):
    return next(item for item in proto.functions if item.name == name)


# --- names ----------------------------------------------------------------------------------------------------------


def test_every_form_has_a_name_of_its_own(compressed):
    names = [item.name for item in compressed.functions]
    assert len(names) == len(set(names))
    assert not any(item.overload for item in compressed.functions)
    assert not any(node.overload for node in compressed.graph.node)
    calls = {node.op_type for node in compressed.graph.node if node.domain == "sparse_rt"}
    assert calls == {
        "Conv2DCompress_Conv_padded",
        "Conv2DCompress_Conv_without_bias",
        QDQ,
        "FullyConnectionCompress_Gemm",
        "FullyConnectionCompress_Gemm_transB_without_bias",
        "MatMulV2Compress_MatMul",
        "MatMulV2Compress_MatMul_left",
        "MatMulV2Compress_MatMul_padded",
    }
    assert calls <= set(COMPRESSED)


def test_all_names_follow_the_rule():
    for name, form in COMPRESSED.items():
        family, _, variant = name.partition("_")
        assert family in ("Conv2DCompress", "Conv2DTransposeDCompress", "MatMulV2Compress", "FullyConnectionCompress")
        assert variant.split("_")[0] == form.dense.op_type


# --- files of earlier versions --------------------------------------------------------------------------------------


@pytest.mark.parametrize("opset", [12, 17])
def test_a_file_with_overloads_stays_readable(opset, tmp_path):
    path = DATA / f"overloads_opset{opset}.onnx"
    stored = np.load(DATA / "overloads.npz")
    feeds, expected = {"x": stored[f"x{opset}"]}, stored[f"y{opset}"]
    with pytest.warns(SparseRTWarning, match="overloads of Conv2DCompress, .* Write it again with sparse-rt compress"):
        session = srt.InferenceSession(str(path), SPARSE)
    assert sum(report.is_sparse for report in session.explain()) == 8
    close(session.run(None, feeds)[0], expected)
    with pytest.warns(SparseRTWarning):
        model = model_io.read(path)
    dense = model_io.to_proto(decompress_model(model))
    assert not dense.functions
    np.testing.assert_array_equal(models.run(dense, feeds)[0], expected)
    with pytest.warns(SparseRTWarning):
        again = compress(str(path))
    assert not any(item.overload for item in (*again.functions, *again.graph.node))
    np.testing.assert_array_equal(models.run(again, feeds)[0], expected)
    before = {tensor.name: tensor.raw_data for tensor in onnx.load(path).graph.initializer}
    assert {tensor.name: tensor.raw_data for tensor in again.graph.initializer} == before
    with pytest.warns(SparseRTWarning):
        assert srt.verify(str(path), feeds=feeds).exit_code == 0


@pytest.mark.parametrize("version", ["1.17.3", "1.26.0"])
def test_stock_onnxruntime_that_ignores_overloads_is_not_asked(version, monkeypatch):
    monkeypatch.setattr(ort, "__version__", version)
    for source in (str(DATA / "overloads_opset17.onnx"), onnx.load(DATA / "overloads_opset17.onnx")):
        with pytest.raises(ModelError, match="overloads, which onnxruntime"):
            stock.open_session(source)


def test_verify_of_overloads_beside_an_onnxruntime_that_ignores_them(monkeypatch):
    monkeypatch.setattr(ort, "__version__", "1.26.0")
    stored = np.load(DATA / "overloads.npz")
    with pytest.warns(SparseRTWarning):
        report = srt.verify(str(DATA / "overloads_opset17.onnx"), feeds={"x": stored["x17"]})
    assert report.exit_code == 0


# --- bodies that say something else ---------------------------------------------------------------------------------


def nodes_of(proto, name, op_type):
    return [node for node in function(proto, name).node if node.op_type == op_type]


def other_table(proto):
    gather = nodes_of(proto, "Decode", "Gather")[0]
    table = next(node for node in function(proto, "Decode").node if gather.input[0] in node.output)
    array = numpy_helper.to_array(table.attribute[0].t).copy()
    array[1] = array[2]
    table.attribute[0].t.CopyFrom(numpy_helper.from_array(array))


def other_reduction(proto):
    scatter = nodes_of(proto, "Decode", "ScatterElements")[0]
    next(item for item in scatter.attribute if item.name == "reduction").s = b"mul"


def no_transpose(proto):
    transpose = nodes_of(proto, "DecodeMatrixInputFirst", "Transpose")[0]
    del transpose.attribute[0].ints[:]
    transpose.attribute[0].ints.extend([0, 1])


def fixed_pads(proto):
    conv = nodes_of(proto, "Conv2DCompress_Conv_padded", "Conv")[0]
    pads = next(item for item in conv.attribute if item.name == "pads")
    pads.ref_attr_name = ""
    pads.ints.extend([1, 1, 1, 1])


def pads_from_another_attribute(proto):
    conv = nodes_of(proto, "Conv2DCompress_Conv_padded", "Conv")[0]
    next(item for item in conv.attribute if item.name == "strides").ref_attr_name = "dilations"


def lost_bias(proto):
    conv = nodes_of(proto, "Conv2DCompress_Conv_padded", "Conv")[0]
    del conv.input[2:]


def extra_relu(proto):
    body = function(proto, "Conv2DCompress_Conv_padded")
    body.node.append(helper.make_node("Relu", [body.output[0]], ["more"]))
    body.output[0] = "more"


def other_layer(proto):
    body = function(proto, "FullyConnectionCompress_Gemm")
    other = function(proto, "FullyConnectionCompress_Gemm_transB_without_bias")
    del body.node[:]
    body.node.extend(other.node)


def swapped_inputs(proto):
    body = function(proto, "Conv2DCompress_Conv_padded")
    body.input[1], body.input[2] = body.input[2], body.input[1]


def default_attribute(proto):
    body = function(proto, "Conv2DCompress_Conv_padded")
    body.attribute.remove("pads")
    body.attribute_proto.append(helper.make_attribute("pads", [1, 1, 1, 1]))


def other_operator(proto):
    nodes_of(proto, "FullyConnectionCompress_Gemm", "Gemm")[0].domain = "mine"
    function(proto, "FullyConnectionCompress_Gemm").opset_import.append(helper.make_opsetid("mine", 1))


def other_axis(proto):
    dequantize = nodes_of(proto, QDQ, "DequantizeLinear")[0]
    next(item for item in dequantize.attribute if item.name == "axis").i = 0


ALTERATIONS = {
    other_table: "Decode",
    other_reduction: "Decode",
    no_transpose: "DecodeMatrixInputFirst",
    fixed_pads: "Conv2DCompress_Conv_padded",
    pads_from_another_attribute: "Conv2DCompress_Conv_padded",
    lost_bias: "Conv2DCompress_Conv_padded",
    extra_relu: "Conv2DCompress_Conv_padded",
    other_layer: "FullyConnectionCompress_Gemm",
    swapped_inputs: "Conv2DCompress_Conv_padded",
    default_attribute: "Conv2DCompress_Conv_padded",
    other_operator: "FullyConnectionCompress_Gemm",
    other_axis: QDQ,
}


@pytest.mark.parametrize("alter", ALTERATIONS, ids=lambda alter: alter.__name__)
def test_an_altered_body_is_refused(compressed, alter):
    alter(compressed)
    for use in (model_io.read, srt.InferenceSession, compress, srt.prune, srt.verify):
        with pytest.raises(ModelError, match=rf"function 'sparse_rt\.{ALTERATIONS[alter]}': expected the body"):
            use(compressed)


def test_an_altered_body_of_an_overload_is_refused():
    proto = onnx.load(DATA / "overloads_opset17.onnx")
    body = next(item for item in proto.functions if item.overload == "Conv_padded")
    next(item for node in body.node for item in node.attribute if item.name == "strides").ref_attr_name = "dilations"
    with pytest.raises(ModelError, match=r"function 'sparse_rt\.Conv2DCompress:Conv_padded'"):
        model_io.read(proto)


def test_every_single_change_of_a_constant_is_refused(compressed):
    content = compressed.SerializeToString()
    count = 0
    for number, body in enumerate(compressed.functions):
        for position, node in enumerate(body.node):
            if node.op_type == "Constant" and not node.attribute[0].ref_attr_name:
                proto = onnx.load_model_from_string(content)
                tensor = proto.functions[number].node[position].attribute[0].t
                tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) + 1))
                with pytest.raises(ModelError, match=rf"sparse_rt\.{body.name}'"):
                    model_io.read(proto)
                count += 1
    assert count > 20


# --- the same said otherwise ----------------------------------------------------------------------------------------


def rename_values(proto):
    for body in proto.functions:
        for node in body.node:
            node.name = f"node of {body.name}"
            node.input[:] = [f"{name}!" if name else "" for name in node.input]
            node.output[:] = [f"{name}!" for name in node.output]
        body.input[:] = [f"{name}!" for name in body.input]
        body.output[:] = [f"{name}!" for name in body.output]


def rewrite_docs(proto):
    for body in proto.functions:
        body.doc_string = ""
        body.metadata_props.add(key="by", value="a tool")
        for node in body.node:
            node.doc_string = "from a tool"


def reverse_order(proto):
    for body in proto.functions:
        nodes, done = list(body.node), {"", *body.input}
        random.Random(0).shuffle(nodes)
        del body.node[:]
        while nodes:
            node = next(node for node in nodes if set(node.input) <= done)
            body.node.append(node)
            done.update(node.output)
            nodes.remove(node)


def reverse_functions(proto):
    functions = list(proto.functions)[::-1]
    del proto.functions[:]
    proto.functions.extend(functions)


def spell_constants(proto):
    for body in proto.functions:
        for node in body.node:
            if node.op_type == "Constant" and node.attribute[0].t.data_type == TensorProto.INT64:
                array = numpy_helper.to_array(node.attribute[0].t)
                if array.ndim < 2:
                    name, value = ("value_int", int(array)) if array.ndim == 0 else ("value_ints", array.tolist())
                    del node.attribute[:]
                    node.attribute.append(helper.make_attribute(name, value, attr_type=None if value != [] else 7))


def store_elements_apart(proto):
    for body in proto.functions:
        for node in body.node:
            for item in node.attribute:
                if item.HasField("t") and item.t.data_type == TensorProto.INT64:
                    array = numpy_helper.to_array(item.t)
                    item.t.CopyFrom(helper.make_tensor("t", TensorProto.INT64, array.shape, array.ravel()))


def write_defaults(proto):
    for body in proto.functions:
        for node in body.node:
            if node.op_type == "Gather":
                node.attribute.append(helper.make_attribute("axis", 0))
            if node.op_type == "Pad":
                node.attribute.append(helper.make_attribute("mode", "constant"))
            if node.op_type == "ReduceProd":
                node.attribute.append(helper.make_attribute("keepdims", 1))


def insert_identity(proto):
    for body in proto.functions:
        node = helper.make_node("Identity", [body.output[0]], ["same"])
        body.node.append(node)
        body.output[0] = "same"


def dead_node(proto):
    for body in proto.functions:
        body.node.append(helper.make_node("Shape", [body.input[1]], ["nobody"]))


def share_constants(proto):
    for body in proto.functions:
        seen, renamed, kept = {}, {}, []
        for node in body.node:
            node.input[:] = [renamed.get(name, name) for name in node.input]
            key = b"".join(item.SerializeToString() for item in node.attribute)
            if node.op_type == "Constant" and key in seen:
                renamed[node.output[0]] = seen[key]
                continue
            if node.op_type == "Constant":
                seen[key] = node.output[0]
            kept.append(node)
        del body.node[:]
        body.node.extend(kept)


def name_the_domain(proto):
    for body in proto.functions:
        for item in body.opset_import:
            item.domain = item.domain or "ai.onnx"
        for node in body.node:
            node.domain = node.domain or "ai.onnx"


SPELLINGS = [
    *(rename_values, rewrite_docs, reverse_order, reverse_functions, spell_constants, store_elements_apart),
    *(write_defaults, insert_identity, dead_node, share_constants),
]


@pytest.mark.parametrize("opset", [12, 17])
@pytest.mark.parametrize("spell", SPELLINGS, ids=lambda spell: spell.__name__)
def test_another_spelling_of_a_body_is_read(spell, opset):
    proto = compress(chain(opset))
    before = proto.SerializeToString()
    spell(proto)
    assert proto.SerializeToString() != before
    assert len(model_io.read(proto).functions) == len(proto.functions)


def test_the_standard_domain_has_two_spellings(compressed):
    before = {item.name: fingerprint(ir.from_proto(item)) for item in compressed.functions}
    name_the_domain(compressed)
    assert {item.name: fingerprint(ir.from_proto(item)) for item in compressed.functions} == before


def test_all_spellings_at_once(compressed, feeds, expected):
    for spell in SPELLINGS:
        spell(compressed)
    close(run(compressed, feeds), expected)


def test_another_tool_writes_the_file_again(compressed, feeds, expected, tmp_path):
    path = tmp_path / "again.onnx"
    ir.save(ir.from_proto(compressed), path)
    close(run(str(path), feeds), expected)
    ir.save(ir.from_proto(onnx.shape_inference.infer_shapes(compressed, data_prop=True)), path)
    close(run(str(path), feeds), expected)


@pytest.mark.parametrize(
    "level", [ort.GraphOptimizationLevel.ORT_DISABLE_ALL, ort.GraphOptimizationLevel.ORT_ENABLE_BASIC]
)
def test_onnxruntime_saves_the_model(compressed, feeds, expected, level, tmp_path):
    options = ort.SessionOptions()
    options.graph_optimization_level = level
    options.optimized_model_filepath = str(tmp_path / "saved.onnx")
    ort.InferenceSession(compressed.SerializeToString(), options, providers=["CPUExecutionProvider"])
    close(run(str(tmp_path / "saved.onnx"), feeds), expected)


@pytest.mark.parametrize(("opset", "target"), [(11, 13), (12, 18), (17, 21)])
def test_the_model_is_converted_to_another_opset(opset, target, feeds, expected):
    converted = onnx.version_converter.convert_version(compress(chain(opset)), target)
    close(run(converted, feeds), expected)
    # The converter of some versions drops the functions: they are written again.
    np.testing.assert_array_equal(models.run(compress(converted), feeds)[0], models.run(chain(target), feeds)[0])


@pytest.mark.parametrize("opset", [16, 17])
def test_a_body_from_before_scatter_could_add_means_the_same(opset, feeds):
    proto = compress(chain(15))
    for item in (proto, *proto.functions):
        next(entry for entry in item.opset_import if entry.domain == "").version = opset
    close(run(proto, feeds), models.run(chain(opset), feeds)[0])


def test_a_model_that_lost_its_functions_runs(compressed, feeds, expected):
    del compressed.functions[:]
    close(run(compressed, feeds), expected)
    written = compress(compressed)
    assert written.functions
    np.testing.assert_array_equal(models.run(written, feeds)[0], expected)


# --- functions of the user's ----------------------------------------------------------------------------------------


def user_function(domain, name, overload=""):
    body = helper.make_function(
        domain, name, ["a"], ["b"], [helper.make_node("Neg", ["a"], ["b"])], [helper.make_opsetid("", 17)]
    )
    body.overload = overload
    return body


def with_user_function(domain, name):
    proto = models.matmul_model(models.two_four(0, (8, 8)), ir_version=10)
    proto.graph.node[0].output[0] = "h"
    proto.graph.node.append(helper.make_node(name, ["h"], ["y"], domain=domain, name="own"))
    proto.opset_import.append(helper.make_opsetid(domain, 1))
    proto.functions.append(user_function(domain, name))
    return proto


@pytest.mark.parametrize("name", ["Negate", "Conv", "Conv2DCompress", "Conv2DCompress_Negate"])
@pytest.mark.parametrize("use", [model_io.read, srt.InferenceSession, compress, srt.prune])
def test_a_function_of_the_users_in_our_domain_is_refused(name, use):
    with pytest.raises(ModelError, match=rf"function 'sparse_rt\.{name}': expected a function of sparse_rt's own"):
        use(with_user_function("sparse_rt", name))


@pytest.mark.parametrize("name", ["Decode", "DecodeMatrixInputFirst", "MatMulV2Compress_MatMul"])
def test_a_function_of_the_users_with_a_name_of_ours_is_refused(name):
    with pytest.raises(ModelError, match=rf"function 'sparse_rt\.{name}': expected the body"):
        model_io.read(with_user_function("sparse_rt", name))


def test_an_unused_function_in_our_domain_is_refused():
    proto = models.matmul_model(models.two_four(0, (8, 8)))
    proto.functions.append(user_function("sparse_rt", "Negate"))
    with pytest.raises(ModelError, match=r"sparse_rt\.Negate"):
        model_io.read(proto)


@pytest.mark.parametrize("name", ["Negate", "Decode", "MatMulV2Compress_MatMul"])
def test_a_function_in_another_domain_may_have_any_name(name):
    proto = with_user_function("mine", name)
    feeds = models.feeds(proto)
    expected = models.run(proto, feeds)[0]
    close(run(proto, feeds), expected)
    compressed = compress(proto)
    np.testing.assert_array_equal(models.run(compressed, feeds)[0], expected)
    close(run(compressed, feeds), expected)


def test_overloads_of_the_users_functions_are_kept_apart():
    """Whatever onnxruntime is installed: they are inlined before anything runs there."""
    proto = models.matmul_model(models.two_four(0, (8, 8)), ir_version=10)
    proto.graph.node[0].output[0] = "h"
    for number, op_type in enumerate(("Neg", "Abs")):
        node = helper.make_node("F", ["h" if number == 0 else "i"], ["i" if number == 0 else "y"], domain="mine")
        node.overload = op_type
        proto.graph.node.append(node)
        body = user_function("mine", "F", op_type)
        body.node[0].op_type = op_type
        proto.functions.append(body)
    proto.opset_import.append(helper.make_opsetid("mine", 1))
    feeds = models.feeds(proto)
    w = numpy_helper.to_array(proto.graph.initializer[0])
    close(run(proto, feeds), np.abs(feeds["x"] @ w))


# --- nodes that contradict their operator ---------------------------------------------------------------------------


def test_an_input_that_the_body_does_not_read_is_refused():
    proto = compress(models.conv_model(models.two_four(0, (8, 8, 3, 3)), bias=False))
    proto.graph.initializer.append(numpy_helper.from_array(np.ones(8, np.float32), "late"))
    proto.graph.node[0].input.append("late")
    with pytest.raises(ModelError, match="expected no bias for Conv2DCompress_Conv_without_bias"):
        srt.InferenceSession(proto)


def test_padding_that_the_body_does_not_cut_off_is_refused():
    proto = compress(models.matmul_model(models.two_four(0, (8, 7))))
    proto.graph.node[0].op_type = "MatMulV2Compress_MatMul"
    with pytest.raises(ModelError, match="expected a multiple of 4 input channels for MatMulV2Compress_MatMul, got 7"):
        srt.InferenceSession(proto)
