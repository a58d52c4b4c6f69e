"""Segments as operators of onnxruntime: what a session computes is what our own segment computes, to the bit."""

import gc
import threading

import numpy as np
import onnxruntime as ort
import pytest
from numba.core import config
from onnx import TensorProto, helper
from sparse_rt_kernels.threads.pool import ThreadPool

from sparse_rt.library import callbacks, kernel_block, segments
from sparse_rt.library.path import get_segment_library_path
from sparse_rt.plan.bind.segment import Segment
from sparse_rt.plan.hosted.host import DOMAIN, OPERATORS
from tests.models.onnx_models import info, model, node, normal, sparse, sparse_session
from tests.plan.bind.test_segment import residual_model

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="libraries are machine code")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def only_segment(content, threads=1):
    (part,) = sparse_session(content, threads=threads).plan.parts
    assert isinstance(part, Segment)
    return part


def session_of(segment, threads=1, known=True, dtype="float32"):
    """A session of onnxruntime whose only node is a segment."""
    number = segments.register(segment, threads if known else 0)
    operator = OPERATORS[dtype]
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    graph = helper.make_graph(
        [helper.make_node(operator, segment.inputs, segment.outputs, domain=DOMAIN, segment=number)],
        "graph",
        [helper.make_tensor_value_info(name, 1, None) for name in segment.inputs],
        [helper.make_tensor_value_info(name, kind, None) for name in segment.outputs],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, 1)]
    made = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.register_custom_ops_library(get_segment_library_path())
    session = ort.InferenceSession(made.SerializeToString(), options)
    segments.unregister(number)
    return session


def ours(segment, feeds, threads=1):
    values = dict(feeds)
    segment.run(values, ThreadPool(threads))
    return [values[name] for name in segment.outputs]


def assert_same(session, segment, feeds, threads=1):
    for y, expected in zip(session.run(None, feeds), ours(segment, feeds, threads), strict=True):
        np.testing.assert_array_equal(y, expected, strict=True)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("outputs", [(), ("a1",), ("y1", "b2")])
def test_a_network_is_one_operator(rng, threads, known, outputs):
    segment = only_segment(residual_model(rng, outputs=outputs), threads)
    session = session_of(segment, threads, known)
    for shape in ((2, 16, 9, 11), (1, 16, 24, 24), (2, 16, 9, 11), (0, 16, 3, 3)):
        assert_same(session, segment, {"x": normal(rng, *shape)}, threads)


def test_outputs_may_be_other_shapes_of_values(rng):
    nodes = [
        node("MatMul", ["x", "w"], ["y"]),
        node("Reshape", ["y", "row"], ["flat"]),
        node("Reshape", ["x", "row"], ["same"]),
        node("Relu", ["flat"], ["z"]),
    ]
    shapes = {"y": ("m", 32), "flat": ("k",), "same": ("j",), "z": ("k",)}
    content = model(
        nodes,
        [info("x", "m", 32)],
        [info(name, *shape) for name, shape in shapes.items()],
        {"w": sparse(rng, 32, 32).T.copy(), "row": np.array([-1])},
    )
    session = sparse_session(content)
    parts = [part for part in session.plan.parts if isinstance(part, Segment)]
    for part in parts:
        feeds = {name: normal(rng, 5, 32) for name in part.inputs}
        assert_same(session_of(part), part, feeds)
    assert parts


def test_more_shapes_than_are_kept(rng, monkeypatch):
    monkeypatch.setattr(kernel_block, "_MOST_CALLS", 2)
    segment = only_segment(residual_model(rng))
    session = session_of(segment)
    for height in (*range(3, 9), *range(3, 9)):
        assert_same(session, segment, {"x": normal(rng, 1, 16, height, 5)})
    assert not callbacks._calls


def test_many_threads_run_one_session(rng):
    segment = only_segment(residual_model(rng), 2)
    session = session_of(segment, 2)
    feeds = [{"x": normal(rng, 1, 16, 5 + number, 7)} for number in range(6)]
    expected = [ours(segment, each, 2)[0] for each in feeds]
    failures = []

    def run():
        for _ in range(5):
            for each, y in zip(feeds, expected, strict=True):
                if not np.array_equal(session.run(None, each)[0], y):
                    failures.append(each["x"].shape)

    workers = [threading.Thread(target=run) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failures


def test_wrong_shapes_are_onnxruntimes_error_with_our_words(rng):
    session = session_of(only_segment(residual_model(rng)))
    with pytest.raises(Exception, match=r"sparse_rt: .*expected") as caught:
        session.run(None, {"x": normal(rng, 1, 15, 4, 4)})
    assert type(caught.value).__module__.startswith("onnxruntime")
    assert session.run(None, {"x": normal(rng, 1, 16, 4, 4)})


def test_too_many_axes(rng):
    session = session_of(only_segment(residual_model(rng)))
    with pytest.raises(Exception, match="sparse_rt"):
        session.run(None, {"x": np.zeros((1,) * 32, np.float32)})


def test_kernels_end_with_their_session(rng):
    gc.collect()
    before = len(callbacks._kernels)
    session = session_of(only_segment(residual_model(rng)))
    assert len(callbacks._kernels) == before + 1
    del session
    gc.collect()
    assert len(callbacks._kernels) == before


def test_segment_of_no_session(rng, monkeypatch):
    monkeypatch.setattr(segments, "register", lambda segment, threads: 1 << 40)
    with pytest.raises(Exception, match="a segment of a session in this process"):
        session_of(only_segment(residual_model(rng)))


def test_scratch_memory_is_not_shared_by_sessions(rng):
    segment = only_segment(residual_model(rng))
    sessions = [session_of(segment) for _ in range(3)]
    for session in sessions:
        assert_same(session, segment, {"x": normal(rng, 3, 16, 12, 12)})


@pytest.mark.parametrize("case", ["type", "inputs", "outputs"])
def test_a_node_that_is_unlike_its_segment_is_refused(rng, case):
    """Kernels read what they are given without a look at its type."""
    segment = only_segment(residual_model(rng))
    number = segments.register(segment, 1)
    inputs = ["x", "other"] if case == "inputs" else ["x"]
    outputs = [*segment.outputs, "more"] if case == "outputs" else list(segment.outputs)
    kind = TensorProto.UINT8 if case == "type" else TensorProto.FLOAT
    operator = helper.make_node("Segment_float", inputs, outputs, domain="sparse_rt.plan", segment=number)
    graph = helper.make_graph(
        [operator],
        "graph",
        [helper.make_tensor_value_info(name, kind, None) for name in inputs],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("sparse_rt.plan", 1)]
    options = ort.SessionOptions()
    options.register_custom_ops_library(get_segment_library_path())
    with pytest.raises(Exception, match=r"sparse_rt: node '.*expected inputs \(float32\) and 1 outputs"):
        ort.InferenceSession(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString(), options)
    segments.unregister(number)
