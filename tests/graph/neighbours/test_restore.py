"""Neighbours put back: the model that was there before, node for node and name for name."""

import json

import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

import sparse_rt as srt
from sparse_rt.errors import ModelError
from sparse_rt.graph import model_io
from sparse_rt.graph.neighbours.record import ALONE
from sparse_rt.graph.operators import COMPRESSED
from sparse_rt.graph.passes.compress import compress, compress_model
from sparse_rt.graph.passes.decompress import decompress_model
from tests.graph import models
from tests.graph.neighbours.graphs import quantised_block
from tests.versions import cases

WITH_NEIGHBOURS = {
    case.name: case
    for case in cases.singles()
    if COMPRESSED[case.name].neighbours != ALONE and "padded" not in case.name
}


def described(proto):
    """Every node by its name, operator and operands; weights and what decodes or dequantises them apart."""
    nodes = []
    for node in proto.graph.node:
        if node.output[0].endswith(("wf", "filter_dequantized")):
            continue
        inputs = [
            "weight" if name.endswith(("wf", "filter_dequantized", ".w", "filter")) else name for name in node.input
        ]
        nodes.append((node.name, node.op_type, tuple(inputs), tuple(node.output)))
    return nodes


@pytest.mark.parametrize("name", WITH_NEIGHBOURS)
def test_the_graph_is_the_one_before(name):
    dense = WITH_NEIGHBOURS[name].dense
    compressed = compress(dense)
    assert [node.op_type for node in compressed.graph.node if node.domain] == [name]
    back = model_io.to_proto(decompress_model(model_io.read(compressed)))
    assert sorted(described(back)) == sorted(described(dense))


@pytest.mark.parametrize("name", WITH_NEIGHBOURS)
def test_compressing_again_changes_nothing(name):
    once = compress(WITH_NEIGHBOURS[name].dense)
    assert compress(once).SerializeToString() == once.SerializeToString()
    # Without neighbours, as files from before there were any:
    read = model_io.read(once)
    assert all(COMPRESSED[node.op_type].neighbours == ALONE for node in read.graph if node.domain == "sparse_rt")
    assert compress(model_io.to_proto(read)).SerializeToString() == once.SerializeToString()


def test_a_shared_dequantize_linear_is_one_again(tmp_path):
    dense = quantised_block()
    compressed = compress(dense)
    assert sum(node.domain == "sparse_rt" for node in compressed.graph.node) == 3
    back = model_io.to_proto(decompress_model(model_io.read(compressed)))
    assert sorted(described(back)) == sorted(described(dense))
    models.assert_same_in_onnxruntime(dense, compressed, tmp_path)


def test_one_that_stands_behind_the_layer_moves_before_it():
    compressed = compress(quantised_block())
    graph = compressed.graph
    kept = next(node for node in graph.node if node.op_type == "DequantizeLinear" and node.output[0] == "xf")
    graph.node.remove(kept)
    place = next(number for number, node in enumerate(graph.node) if "xf" in node.input)
    graph.node.insert(place, kept)
    back = model_io.to_proto(decompress_model(model_io.read(compressed)))
    assert sorted(described(back)) == sorted(described(quantised_block()))
    feeds = models.feeds(quantised_block())
    np.testing.assert_array_equal(models.run(back, feeds)[0], models.run(quantised_block(), feeds)[0])


@pytest.mark.parametrize("note", [None, "", "[", "[1, 2]", '["a\\u0000", "b"]', '["only"]', "{}", "[" * 100_000])
def test_a_note_that_is_none_is_no_harm(note):
    dense = quantised_block()
    compressed = compress(dense)
    for node in compressed.graph.node:
        for entry in list(node.metadata_props):
            node.metadata_props.remove(entry)
            if note is not None:
                node.metadata_props.add(key="sparse_rt.names", value=note)
    feeds = models.feeds(dense)
    back = model_io.to_proto(decompress_model(model_io.read(compressed)))
    np.testing.assert_array_equal(models.run(back, feeds)[0], models.run(dense, feeds)[0])


def test_noted_names_that_are_taken():
    compressed = compress(quantised_block())
    for node in compressed.graph.node:
        for entry in node.metadata_props:
            entry.value = json.dumps(["same", "x"] * 9)
    feeds = models.feeds(quantised_block())
    back = model_io.to_proto(decompress_model(model_io.read(compressed)))
    np.testing.assert_array_equal(models.run(back, feeds)[0], models.run(quantised_block(), feeds)[0])


def test_models_that_were_not_read_from_a_file():
    once = compress_model(model_io.read(quantised_block())).model
    assert ir.to_proto(compress_model(once).model).SerializeToString() == ir.to_proto(once).SerializeToString()
    assert not any(node.domain == "sparse_rt" for node in decompress_model(once).graph)


def test_pruning_leaves_the_neighbours_where_they_are():
    once = compress(quantised_block())
    assert [node.op_type for node in srt.prune(once).graph.node] == [node.op_type for node in once.graph.node]


# --- files that contradict themselves -------------------------------------------------------------------------------


def of_one_layer():
    return compress(WITH_NEIGHBOURS["Conv2DCompress_Conv_clip"].dense)


def test_an_operand_that_is_missing_is_refused():
    proto = of_one_layer()
    layer = next(node for node in proto.graph.node if node.domain)
    del layer.input[-1]
    model = ir.from_proto(proto)
    with pytest.raises(ModelError, match="expected an input high for Conv2DCompress_Conv_clip, got none"):
        compress_model(model)


@pytest.mark.parametrize("position", [4, 6, 8, 11, 14])
def test_an_operand_that_the_body_does_not_read_is_refused(position):
    proto = of_one_layer()
    layer = next(node for node in proto.graph.node if node.domain)
    proto.graph.initializer.append(numpy_helper.from_array(np.ones(8, np.float32), "late"))
    layer.input.extend([""] * (15 - len(layer.input)))
    layer.input[position] = "late"
    with pytest.raises(ModelError, match=r"expected no \w+ for Conv2DCompress_Conv"):
        srt.InferenceSession(proto)


def test_an_operator_with_neighbours_in_a_branch():
    proto = of_one_layer()
    layer = next(node for node in proto.graph.node if node.domain)
    branch = helper.make_graph([layer], "then", [], [models.info(layer.output[0], None)])
    branch.output[0].type.tensor_type.ClearField("shape")
    other = helper.make_graph(
        [helper.make_node("Identity", [layer.output[0]], ["other"])], "else", [], [models.info("other", None)]
    )
    other.output[0].type.tensor_type.ClearField("shape")
    other.node[0].input[0] = "l0.x"
    name = layer.output[0]
    inner = helper.make_node("If", ["condition"], [f"{name}.chosen"], then_branch=branch, else_branch=other)
    del proto.graph.node[:]
    proto.graph.node.append(inner)
    proto.graph.input.append(models.info("condition", [], np.bool_))
    proto.graph.output[0].name = f"{name}.chosen"
    feeds = WITH_NEIGHBOURS["Conv2DCompress_Conv_clip"].feeds | {"condition": np.array(True)}
    expected = models.run(
        WITH_NEIGHBOURS["Conv2DCompress_Conv_clip"].dense, WITH_NEIGHBOURS["Conv2DCompress_Conv_clip"].feeds
    )
    session = srt.InferenceSession(proto, srt.SessionOptions(intra_op_num_threads=1))
    np.testing.assert_allclose(session.run(None, feeds)[0], expected[0], rtol=1e-5)
