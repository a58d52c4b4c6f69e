"""Nodes of every form as segments: what they compute is what stock onnxruntime computes by the function's body."""

from dataclasses import replace

import numpy as np
import pytest
from numba.core import config
from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented
from sparse_rt_kernels.threads.pool import ThreadPool

from sparse_rt.errors import SparseRTError
from sparse_rt.graph.neighbours.record import ALONE
from sparse_rt.graph.operators import COMPRESSED
from sparse_rt.library.fallback import Fallback
from sparse_rt.library.form_operators import is_computed
from sparse_rt.library.node import NodeInput
from sparse_rt.library.node_segment import Refusal, segment_of
from sparse_rt.plan.bind.segment import Segment
from tests.library import nodes
from tests.library.nodes import INT8, SINGLES, UINT8

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="segments are machine code")
COMPUTED = [name for name, form in COMPRESSED.items() if is_computed(form)]
OTHERS = [name for name in COMPRESSED if name not in COMPUTED]
#: Those without neighbours, and some of the many others.
SOME = [name for number, name in enumerate(COMPUTED) if COMPRESSED[name].neighbours == ALONE or number % 7 == 0]
QUANTISED = [name for name in COMPUTED if COMPRESSED[name].dense.form in ("qlinear", "integer")]
SIZES = {
    "matmul": [lambda shape: (1, shape[1]), lambda shape: (2, 5, shape[1]), lambda shape: (0, shape[1])],
    "gemm": [lambda shape: (1, shape[1]), lambda shape: (67, shape[1])],
    "left": [lambda shape: (shape[0], 1), lambda shape: (3, shape[0], 33)],
    "residual": [lambda shape: (1, *shape[1:]), lambda shape: (3, *shape[1:])],
    "conv": [lambda shape: (1, shape[1], 5, 9), lambda shape: (3, shape[1], 16, 12)],
}


@pytest.fixture
def rng():
    return np.random.default_rng(11)


def check(node, threads=1):
    segment = segment_of(node.description)
    assert isinstance(segment, Segment), segment
    assert set(segment.inputs) <= set(node.feeds)
    shapes = tuple(node.feeds[name].shape for name in segment.inputs)
    assert segment.bind(shapes, threads) is not None
    assert_runs(segment, node, threads)
    return segment


def assert_runs(runner, node, threads=1, tolerance=2e-5, steps=0):
    values = dict(node.feeds)
    runner.run(values, ThreadPool(threads))
    (y,) = (values[name] for name in runner.outputs)
    assert (y.dtype, y.shape) == (node.expected.dtype, node.expected.shape)
    if y.dtype.kind == "f":
        tolerance = tolerance if y.dtype == np.float32 else 2e-2
        largest = np.abs(node.expected).max(initial=1)
        np.testing.assert_allclose(y, node.expected, rtol=tolerance, atol=tolerance * largest)
    else:
        apart = np.abs(y.astype(np.int64) - node.expected)
        assert apart.max(initial=0) <= steps


@pytest.mark.parametrize("name", COMPUTED)
def test_a_form(name):
    check(nodes.node_of(SINGLES[name].dense, SINGLES[name].feeds))


@pytest.mark.parametrize("name", SOME)
def test_a_form_at_other_sizes(name, rng):
    dense = COMPRESSED[name].dense
    kind = "conv" if dense.kind != "matmul" else "left" if dense.side == "left" else "matmul"
    if kind == "matmul" and dense.op_type in ("Gemm", "QGemm"):
        kind = "gemm"
    if "residual" in COMPRESSED[name].neighbours.addition:
        kind = "residual"
    for change in SIZES[kind]:
        check(nodes.node_of(*nodes.resized(SINGLES[name].dense, SINGLES[name].feeds, rng, change)), threads=2)


@pytest.mark.parametrize("kind", [UINT8, INT8])
@pytest.mark.parametrize("roles", [("x", "x_zero_point", "y", "y_zero_point"), ("w", "filter_zero_point")])
@pytest.mark.parametrize("name", QUANTISED)
def test_a_form_of_bytes_with_or_without_sign(name, roles, kind):
    try:
        node = nodes.node_of(*nodes.with_type(SINGLES[name], roles, kind))
    except NotImplemented:
        pytest.skip("stock onnxruntime has no such operator")
    check(node)


@pytest.mark.parametrize("name", [*SOME, *OTHERS])
def test_any_form_can_run_in_stock_onnxruntime(name):
    """Of forms that are not registered onnxruntime runs the bodies; it could run these, too."""
    node = nodes.node_of(SINGLES[name].dense, SINGLES[name].feeds)
    fallback = Fallback(node.description, 1)
    assert set(fallback.inputs) == set(node.feeds)
    assert fallback.bind((), 1) is None
    # Optimised, onnxruntime quantises an x that is not, where the weight is; and other roundings may change a step.
    is_dequantised = COMPRESSED[name].dense.form == "qdq"
    assert_runs(fallback, node, tolerance=2e-2 if is_dequantised else 2e-5, steps=int(is_dequantised))


@pytest.mark.parametrize("name", QUANTISED)
def test_parameters_that_are_not_constant_are_refused(name):
    node = nodes.node_of(SINGLES[name].dense, SINGLES[name].feeds)
    for parameter in ("x_scale", "y_scale", "x_zero_point"):
        array = node.description.constants.get(parameter)
        if array is None:
            continue
        constants = {key: value for key, value in node.description.constants.items() if key != parameter}
        inputs = {**node.description.inputs, parameter: NodeInput(array.dtype, array.shape)}
        description = replace(node.description, constants=constants, inputs=inputs)
        assert isinstance(segment_of(description), Refusal)
        fed = node._replace(description=description, feeds={**node.feeds, parameter: array})
        assert_runs(Fallback(description, 1), fed)


def test_what_is_estimated_to_be_slow_is_refused():
    node = nodes.node_of(SINGLES["MatMulV2Compress_MatMul"].dense, SINGLES["MatMulV2Compress_MatMul"].feeds)
    inputs = {"x": NodeInput(np.dtype(np.float32), (60000, 8))}
    found = segment_of(replace(node.description, inputs=inputs))
    assert isinstance(found, Refusal)
    assert "selection is estimated to cost" in found.reason


def test_an_activation_of_another_type_is_refused():
    for name in ("MatMulV2Compress_MatMul", "MatMulV2Compress_QLinearMatMul"):
        node = nodes.node_of(SINGLES[name].dense, SINGLES[name].feeds)
        inputs = {"x": NodeInput(np.dtype(np.int16), (3, 8))}
        found = segment_of(replace(node.description, inputs=inputs))
        assert isinstance(found, Refusal)
        assert "x is int16" in found.reason


@pytest.mark.parametrize("name", SOME)
def test_sizes_need_not_be_known(name):
    node = nodes.node_of(SINGLES[name].dense, SINGLES[name].feeds)
    for shape in (None, (None,) * node.feeds["x"].ndim):
        inputs = {key: NodeInput(item.dtype, shape) for key, item in node.description.inputs.items()}
        check(node._replace(description=replace(node.description, inputs=inputs)))


def without(mapping, name):
    return {key: value for key, value in mapping.items() if key != name}


def corrupted(description):
    """Descriptions of nodes that contradict themselves, with what the error says."""
    constants, attributes = description.constants, description.attributes
    values, index = constants["filter_compress"], constants["compress_index"]
    yield replace(description, constants={**constants, "filter_compress": values[:, :-1]}), "values"
    yield replace(description, constants={**constants, "compress_index": index[:-1]}), "index"
    yield replace(description, constants={**constants, "compress_index": np.full_like(index, 0xFF)}), "index"
    yield replace(description, constants=without(constants, "compress_index")), "constant"
    yield replace(description, constants={**constants, "filter_compress": values.astype(np.float64)}), "float64"
    yield replace(description, attributes=without(attributes, "alg")), "alg"
    yield replace(description, attributes={**attributes, "alg": "another"}), "another"
    yield replace(description, attributes=without(attributes, "filter_shape")), "filter_shape"
    yield replace(description, attributes={**attributes, "filter_shape": np.array([3])}), "filter_shape"
    yield replace(description, op_type="Conv2DCompress_Another"), "Another"


@pytest.mark.parametrize("name", ["MatMulV2Compress_MatMul", "Conv2DCompress_Conv", "Conv2DCompress_QLinearConv"])
def test_a_corrupt_node_is_an_error(name):
    node = nodes.node_of(SINGLES[name].dense, SINGLES[name].feeds)
    for description, words in corrupted(node.description):
        with pytest.raises(SparseRTError, match=words):
            segment_of(description)
        with pytest.raises(SparseRTError):
            Fallback(description, 1)
