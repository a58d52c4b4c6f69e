"""Compressed files in stock onnxruntime with the library: what the function bodies give, on our kernels."""

import subprocess
import sys

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numba.core import config

import sparse_rt
from sparse_rt.library import callbacks
from tests.models.onnx_models import info, model, node, normal, sparse
from tests.plan.bind.test_segment import residual_model

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="libraries are machine code")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def stock(content, threads=1, library=True):
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    if library:
        options.register_custom_ops_library(sparse_rt.get_library_path())
    return ort.InferenceSession(content if isinstance(content, bytes) else content.SerializeToString(), options)


def kernels_of(content, threads=1):
    """A session, and how many kernels of ours it has."""
    before = len(callbacks._kernels)
    session = stock(content, threads)
    return session, len(callbacks._kernels) - before


@pytest.mark.parametrize("threads", [1, 2])
def test_layers_of_a_file_run_on_our_kernels(rng, threads):
    compressed = sparse_rt.compress(residual_model(rng))
    session, kernels = kernels_of(compressed, threads)
    assert kernels == 6
    alone = stock(compressed, threads, library=False)
    for shape in ((2, 16, 9, 11), (1, 16, 24, 24), (2, 16, 9, 11)):
        feeds = {"x": normal(rng, *shape)}
        np.testing.assert_allclose(session.run(None, feeds)[0], alone.run(None, feeds)[0], rtol=1e-4, atol=1e-5)


def test_corrupt_indexes_are_onnxruntimes_error_with_our_words(rng):
    compressed = sparse_rt.compress(residual_model(rng))
    changed = onnx.ModelProto()
    changed.CopyFrom(compressed)
    layer = next(each for each in changed.graph.node if each.domain == "sparse_rt")
    index = next(each for each in changed.graph.initializer if each.name == layer.input[2])
    array = onnx.numpy_helper.to_array(index).copy()
    array[...] = 0xFF
    index.CopyFrom(onnx.numpy_helper.from_array(array, index.name))
    with pytest.raises(Exception, match="sparse_rt: ") as caught:
        stock(changed)
    assert type(caught.value).__module__.startswith("onnxruntime")


def test_a_layer_that_kernels_refuse_is_computed_all_the_same(rng):
    """A bias that only a run brings."""
    nodes = [node("Relu", ["b"], ["c"]), node("Conv", ["x", "w", "c"], ["y"], kernel_shape=[1, 1])]
    content = model(
        nodes,
        [info("x", 1, 16, 4, 4), info("b", 16)],
        [info("y", 1, 16, 4, 4)],
        {"w": sparse(rng, 16, 16, 1, 1)},
    )
    compressed = sparse_rt.compress(content)
    feeds = {"x": normal(rng, 1, 16, 4, 4), "b": normal(rng, 16)}
    expected = stock(compressed, library=False).run(None, feeds)[0]
    np.testing.assert_allclose(stock(compressed).run(None, feeds)[0], expected, rtol=1e-4, atol=1e-5)


def test_the_library_is_asked_for_again_after_the_cache_was_cleared(rng):
    compressed = sparse_rt.compress(residual_model(rng))
    feeds = {"x": normal(rng, 1, 16, 6, 6)}
    path = sparse_rt.get_library_path()
    first = stock(compressed)
    expected = first.run(None, feeds)[0]
    subprocess.run(["rm", "-f", path], check=True)
    np.testing.assert_array_equal(first.run(None, {"x": feeds["x"]})[0], expected)
    np.testing.assert_array_equal(stock(compressed).run(None, feeds)[0], expected)
    other = {"x": normal(rng, 1, 16, 7, 7)}
    np.testing.assert_array_equal(first.run(None, other)[0], stock(compressed).run(None, other)[0])


def test_two_libraries_in_one_sessions_options(rng):
    options = ort.SessionOptions()
    options.register_custom_ops_library(sparse_rt.get_library_path())
    other = ort.SessionOptions()
    other.register_custom_ops_library(sparse_rt.get_library_path())
    compressed = sparse_rt.compress(residual_model(rng)).SerializeToString()
    feeds = {"x": normal(rng, 1, 16, 6, 6)}
    results = [ort.InferenceSession(compressed, each).run(None, feeds)[0] for each in (options, other, options)]
    for each in results[1:]:
        np.testing.assert_array_equal(each, results[0])


def test_sessions_that_outlive_python(rng, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(sparse_rt.compress(residual_model(rng)).SerializeToString())
    script = f"""
import numpy as np, onnxruntime as ort, sparse_rt
options = ort.SessionOptions()
options.register_custom_ops_library(sparse_rt.get_library_path())
session = ort.InferenceSession({str(path)!r}, options)
session.run(None, {{"x": np.ones((1, 16, 5, 5), np.float32)}})
import builtins
builtins.kept = session
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)


def test_models_that_a_process_with_a_library_saves_are_read(rng, tmp_path):
    """onnxruntime writes the domains that a process has registered into every model that it saves, as version 1000."""
    stock(sparse_rt.compress(residual_model(rng)))
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "saved.onnx")
    ort.InferenceSession(residual_model(rng).SerializeToString(), options)
    versions = {each.domain: each.version for each in onnx.load(tmp_path / "saved.onnx").opset_import}
    assert versions["sparse_rt"] == 1000
    feeds = {"x": normal(rng, 1, 16, 6, 6)}
    session = sparse_rt.InferenceSession(str(tmp_path / "saved.onnx"))
    assert session.run(None, feeds)[0].shape == (1, 16, 6, 6)
    assert sparse_rt.compress(str(tmp_path / "saved.onnx"))
