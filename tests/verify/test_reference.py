"""The reference: which model it is, and what it is fed."""

import importlib

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import sparse_rt as srt
from sparse_rt.errors import FeedError, ModelError
from tests.models.onnx_models import FLOAT, INT32, INT64, info, model, node, normal, sparse
from tests.verify.models import (
    convolutions,
    dynamic_quantised,
    left_product,
    two_layers,
)


def test_a_reference_that_does_not_load(rng):
    with pytest.raises(ModelError):
        srt.verify(two_layers(rng), b"not onnx")


def test_tensor_names_are_found_whatever_the_source(rng, tmp_path):
    proto = two_layers(rng)
    path = tmp_path / "m.onnx"
    onnx.save(proto, path)
    for source in (str(path), path, proto.SerializeToString(), proto):
        report = srt.verify(source)
        assert report.layers[0].comparison is not None


@pytest.mark.parametrize("build", [two_layers, convolutions, left_product, dynamic_quantised])
def test_a_large_model_is_held_against_its_dense_form(build, rng, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.import_module("sparse_rt.verify.verification"), "DECOMPRESS_LIMIT", 0)
    path = tmp_path / "compressed.onnx"
    onnx.save(srt.compress(build(rng)), path)
    report = srt.verify(str(path), batch=2)
    assert report.equal, report.reason
    assert report.reference == f"{path}, decompressed"
    assert all(layer.comparison is not None for layer in report.layers)


@pytest.mark.parametrize(("kind", "opset"), [("BFLOAT16", 17), ("INT4", 21)])
def test_outputs_of_which_there_are_no_arrays_cannot_be_compared(kind, opset):
    number = getattr(onnx.TensorProto, kind)
    nodes = [node("MatMul", ["x", "w"], ["y"]), node("Cast", ["y"], ["z"], to=number)]
    weight = sparse(np.random.default_rng(6), 8, 8).T.copy()
    outputs = [info("y", 2, 8), info("z", 2, 8, kind=number)]
    proto = model(nodes, [info("x", 2, 8)], outputs, {"w": weight}, opset)
    with pytest.raises(srt.ModelError, match=r"output 'z': expected a type .*, got tensor\((bfloat16|int4)\)"):
        srt.verify(proto)


@pytest.mark.parametrize("overridden", ["v", "w", "b"])
def test_feeds_of_initializers_that_callers_may_override_reach_the_reference(rng, overridden):
    """Their names are not among a session's inputs; verify called a right answer different."""
    proto = model(
        [
            node("MatMul", ["x", "w"], ["a"], name="a"),
            node("Add", ["a", "b"], ["c"]),
            node("MatMul", ["c", "v"], ["y"]),
        ],
        [info("x", 2, 8)],
        [info("y", 2, 8)],
        {"w": sparse(rng, 8, 8).T.copy(), "b": normal(rng, 8), "v": sparse(rng, 8, 8).T.copy()},
    )
    shape = (8,) if overridden == "b" else (8, 8)
    proto.graph.input.append(info(overridden, *shape))
    feeds = {"x": normal(rng, 2, 8), overridden: normal(rng, *shape)}
    for given in (feeds, {"x": feeds["x"]}):
        report = srt.verify(proto, feeds=given)
        assert report.exit_code == 0, report.reason


def other_input(graph):
    graph.input[0].name = graph.node[0].input[0] = "z"


def one_more_input(graph):
    graph.input.append(info("more", 3))


def one_more_output(graph):
    graph.output.append(info("b", None, None))


def other_output(graph):
    graph.node.append(node("ArgMax", ["y"], ["z"]))
    graph.output[0].CopyFrom(helper.make_tensor_value_info("z", INT64, None))


def integer_output(graph):
    graph.node[-1].output[0] = "f"
    graph.node.append(node("Cast", ["f"], ["y"], to=INT32))
    graph.output[0].type.tensor_type.elem_type = INT32


def sequence_output(graph):
    graph.node[-1].output[0] = "f"
    graph.node.append(node("SequenceConstruct", ["f", "f"], ["y"]))
    graph.output[0].CopyFrom(helper.make_tensor_sequence_value_info("y", FLOAT, None))


def inner_sequence(graph):
    graph.node[1].output[0] = graph.node[2].input[0] = "c"
    graph.node.append(node("SequenceConstruct", ["c"], ["b"]))


def twice_as_many_rows(graph):
    graph.node[0].output[0] = "c"
    graph.node.insert(1, node("Concat", ["c", "c"], ["a"], axis=0))


def another_model(graph):
    del graph.node[:]
    graph.node.append(node("Identity", ["x"], ["y"]))
    graph.output[0].type.tensor_type.shape.dim[1].dim_value = 24


def changed_bias(graph):
    graph.initializer[2].CopyFrom(
        numpy_helper.from_array(numpy_helper.to_array(graph.initializer[2]) + np.float32(1e-3), "b2")
    )


@pytest.mark.parametrize(
    ("change", "as_reference", "as_model"),
    [
        (other_input, FeedError, FeedError),
        (one_more_input, FeedError, FeedError),
        (one_more_output, 2, 2),
        (other_output, 2, 2),
        (integer_output, 1, 1),
        (sequence_output, 1, 1),
        (inner_sequence, 0, 0),  # only the outputs can be compared, and are the same
        (twice_as_many_rows, 1, 1),
        (another_model, 1, 1),
        (changed_bias, 1, 1),
    ],
)
def test_a_reference_that_is_another_model(rng, change, as_reference, as_model):
    proto, changed = (two_layers(np.random.default_rng(5)) for _ in range(2))
    change(changed.graph)
    feeds = {"x": normal(rng, 3, 24)}
    for args, outcome in (((proto, changed, feeds), as_reference), ((changed, proto, feeds), as_model)):
        if isinstance(outcome, type):
            with pytest.raises(outcome):
                srt.verify(*args)
        else:
            assert srt.verify(*args).exit_code == outcome


@pytest.mark.parametrize("content", [b"", b"\x00" * 50, b"\x08", "half", "folder", "missing"])
def test_damaged_references(rng, tmp_path, content):
    proto = two_layers(rng)
    path = tmp_path / "r.onnx"
    if content == "folder":
        path.mkdir()
    elif content != "missing":
        path.write_bytes(proto.SerializeToString()[:700] if content == "half" else content)
    for args in ((proto, str(path)), (str(path), proto)):
        with pytest.raises(ModelError):
            srt.verify(*args)
