"""Compressed layers that our session leaves to onnxruntime: each runs the body of its own form there.

`make versions` runs these tests beside every onnxruntime that we allow.
"""

import numpy as np
import onnx
import pytest
from onnx import helper

import sparse_rt as srt
from sparse_rt.errors import SparseRTWarning
from sparse_rt.graph.passes.compress import compress
from sparse_rt.plan.islands.onnxruntime_step import OnnxRuntimeStep
from tests import naive
from tests.graph import models

node = helper.make_node


def weight(seed, shape):
    """Unsigned 2:4 weights with values that no sparse kernel takes."""
    return naive.prune_2_4(np.random.default_rng(seed).integers(100, 256, shape).astype(np.uint8))


def islands():
    """Layers of several forms of each family with a float32 layer of ours before and after them."""
    random = np.random.default_rng(0)
    constants = {
        "first": models.two_four(1, (8, 8)).T.copy(),
        "scale": np.float32(0.05),
        "zero": np.uint8(128),
        "wz": np.uint8(0),
        "m0": weight(2, (8, 8)).T.copy(),
        "m1": weight(3, (10, 8)).T.copy(),
        "m2": weight(4, (8, 10)).T.copy(),
        "c0": weight(5, (8, 8, 1, 1)),
        "c1": weight(6, (6, 8, 1, 1)),
        "c2": weight(7, (8, 6, 1, 1)),
        "g0": models.two_four(8, (10, 8)).T.copy(),
        "g1": models.two_four(9, (8, 10)),
        "b0": random.standard_normal((4, 1)).astype(np.float32),
        "b1": random.standard_normal((4, 1)).astype(np.float32),
        "tiny": np.float32(1e-4),
        "image": np.array([4, 8, 1, 1]),
        "rows": np.array([4, 8]),
        "last": models.two_four(10, (8, 8)).T.copy(),
    }
    nodes = [node("MatMul", ["x", "first"], ["h0"], name="first")]
    layers = [
        ("MatMulInteger", "m0", ["zero"]),
        ("MatMulInteger", "m1", []),
        ("MatMulInteger", "m2", ["zero", "wz"]),
        ("ConvInteger", "c0", ["zero"]),
        ("ConvInteger", "c1", []),
        ("ConvInteger", "c2", ["zero", "wz"]),
    ]
    for number, (op_type, name, more) in enumerate(layers):
        x, tail = f"h{number}", f"h{number + 1}"
        if op_type == "ConvInteger" and number == 3:
            nodes.append(node("Reshape", [x, "image"], ["image_of_rows"]))
            x = "image_of_rows"
        nodes += [
            node("QuantizeLinear", [x, "scale", "zero"], [f"q{number}"]),
            node(op_type, [f"q{number}", name, *more], [f"i{number}"], name=f"{op_type}_{name}"),
            node("Cast", [f"i{number}"], [f"f{number}"], to=1),
            node("Mul", [f"f{number}", "tiny"], [tail]),
        ]
    nodes += [
        node("Reshape", ["h6", "rows"], ["h7"]),
        node("Gemm", ["h7", "g0", "b0"], ["h8"], name="gemm"),
        node("Gemm", ["h8", "g1", "b1"], ["h9"], name="gemm_transB", transB=1),
        node("MatMul", ["h9", "last"], ["y"], name="last"),
    ]
    return models.model(nodes, [models.info("x", [4, 8])], [models.info("y", [4, 8])], constants)


@pytest.fixture(scope="module")
def dense():
    return islands()


@pytest.fixture(scope="module")
def feeds(dense):
    return models.feeds(dense)


@pytest.fixture(scope="module")
def expected(dense, feeds):
    return models.run(dense, feeds)[0]


def session(proto):
    return srt.InferenceSession(proto, srt.SessionOptions(intra_op_num_threads=1, tuning="sparse"))


def test_layers_of_many_forms_stay_with_onnxruntime(dense, feeds, expected):
    compressed = compress(dense)
    names = {item.op_type for item in compressed.graph.node if item.domain == "sparse_rt"}
    assert len(names) == 9
    found = session(compressed)
    left = [report for report in found.explain() if not report.is_sparse]
    assert len(left) == 8, [(report.name, report.reason) for report in left]
    assert any(isinstance(step, OnnxRuntimeStep) for step in found.plan.steps)
    np.testing.assert_allclose(found.run(None, feeds)[0], expected, rtol=1e-4, atol=1e-4)


def with_overloads(proto):
    """The same file as earlier versions wrote it."""
    for item in (*proto.graph.node, *(n for body in proto.functions for n in body.node), *proto.functions):
        if isinstance(item, onnx.FunctionProto):
            if "Compress_" in item.name:
                item.name, item.overload = item.name.split("_", 1)
        elif "Compress_" in item.op_type:
            item.op_type, item.overload = item.op_type.split("_", 1)
    proto.ir_version = 10
    return proto


@pytest.mark.parametrize("lost", [False, True])
def test_islands_of_a_file_with_overloads_or_without_functions(dense, feeds, expected, lost):
    proto = compress(dense)
    if lost:
        del proto.functions[:]
        found = session(proto)
    else:
        with pytest.warns(SparseRTWarning):
            found = session(with_overloads(proto))
    np.testing.assert_allclose(found.run(None, feeds)[0], expected, rtol=1e-4, atol=1e-4)


def test_a_whole_model_of_overloads_that_onnxruntime_runs(dense, feeds, monkeypatch):
    """No layer is ours; too large to be decompressed, says the limit."""
    proto = islands()
    kept = [item for item in proto.graph.node if item.name not in ("first", "last")]
    for item in kept:
        item.input[:] = ["x" if name == "h0" else name for name in item.input]
        item.output[:] = ["y" if name == "h9" else name for name in item.output]
    del proto.graph.node[:]
    proto.graph.node.extend(kept)
    expected = models.run(proto, feeds)[0]
    compressed = compress(proto)
    monkeypatch.setattr("sparse_rt.plan.islands.whole._MOST_DECOMPRESSED", 1)
    for form in (compressed, with_overloads(compress(proto))):
        if any(item.overload for item in form.functions):
            with pytest.warns(SparseRTWarning):
                found = session(form)
        else:
            found = session(form)
        assert not any(report.is_sparse for report in found.explain())
        np.testing.assert_array_equal(found.run(None, feeds)[0], expected)


def test_overloads_of_the_users_functions_in_a_model_that_onnxruntime_runs_whole():
    """Where onnxruntime would run one body for both, it gets the model with the bodies in place of the calls."""
    body = [
        helper.make_function("mine", "F", ["a"], ["b"], [node(op, ["a"], ["b"])], [helper.make_opsetid("", 17)])
        for op in ("Neg", "Abs")
    ]
    body[0].overload, body[1].overload = "neg", "abs"
    calls = [node("F", ["x"], ["h"], domain="mine"), node("F", ["h"], ["y"], domain="mine")]
    calls[0].overload, calls[1].overload = "abs", "neg"
    proto = models.model(
        calls, [models.info("x", [3])], [models.info("y", [3])], {}, ir_version=10, domains=["mine"], functions=body
    )
    x = np.array([1, -2, 3], np.float32)
    np.testing.assert_array_equal(session(proto).run(None, {"x": x})[0], -np.abs(x))
