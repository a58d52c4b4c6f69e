"""Small ONNX models with 2:4 weights, and the comparison of a session with stock onnxruntime."""

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from sparse_rt import InferenceSession, SessionOptions
from tests import naive

FLOAT, INT8, UINT8, INT32, INT64 = (
    TensorProto.FLOAT,
    TensorProto.INT8,
    TensorProto.UINT8,
    TensorProto.INT32,
    TensorProto.INT64,
)
node = helper.make_node


def info(name, *shape, kind=FLOAT):
    return helper.make_tensor_value_info(name, kind, list(shape))


def model(nodes, inputs, outputs, initializers=None, opset=17, ir_version=8, functions=(), domains=()):
    initializers = [numpy_helper.from_array(np.asarray(v), k) for k, v in (initializers or {}).items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, initializers)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    opsets += [helper.make_opsetid(domain, 1) for domain in domains]
    return helper.make_model(graph, opset_imports=opsets, ir_version=ir_version, functions=functions)


def sparse(rng, *shape):
    """A float 2:4 weight, output channel first."""
    return naive.prune_2_4(rng.standard_normal(shape).astype(np.float32) / np.float32(np.sqrt(np.prod(shape[1:]))))


def sparse_int8(rng, *shape):
    return naive.prune_2_4(rng.integers(-127, 128, shape).astype(np.int8))


def normal(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def sparse_session(proto, threads=1):
    return InferenceSession(proto, SessionOptions(intra_op_num_threads=threads))


def stock(proto, feeds, names=None, optimise=True):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    if not optimise:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    source = proto if isinstance(proto, str) else proto.SerializeToString()
    return ort.InferenceSession(source, options).run(names, feeds)


def compare(proto, feeds, *, layers=None, islands=None, tolerance=2e-5, threads=1, names=None):
    """Run a model in both sessions.

    `layers` is how many sparse layers the plan must have, `islands` how many islands it may have: those of a plan
    without operators of our own.
    """
    session = sparse_session(proto, threads)
    kinds = [type(step).__name__ for step in session.plan.steps]
    if layers is not None:
        assert kinds.count("SparseStep") == layers, session.explain()
    if islands is not None:
        assert kinds.count("OnnxRuntimeStep") <= islands, session.plan.describe()
    theirs = stock(proto, feeds, names)
    ours = session.run(names, feeds)
    assert len(ours) == len(theirs)
    for y, reference in zip(ours, theirs, strict=True):
        if isinstance(reference, list):
            assert len(y) == len(reference)
            continue
        assert y.dtype == reference.dtype
        assert y.shape == reference.shape
        if reference.dtype == np.float32:
            np.testing.assert_allclose(y, reference, rtol=tolerance, atol=tolerance * max(1.0, _largest(reference)))
        else:
            np.testing.assert_array_equal(y, reference)
    return session


def _largest(array):
    finite = array[np.isfinite(array)]
    return float(np.abs(finite).max()) if finite.size else 0.0


def names_of(proto: onnx.ModelProto):
    return [output.name for output in proto.graph.output]
