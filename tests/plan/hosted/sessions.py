"""Sessions whose kernels run inside onnxruntime, for the tests of hosted plans."""

import numpy as np
import pytest
from numba.core import config

import sparse_rt as srt
from tests.models.forced_measurements import has_dense_kernels
from tests.models.onnx_models import info, model, node, normal, sparse, stock

__all__ = ["agrees", "hosted_session", "mixed", "needs_machine_code", "rows_of"]

needs_machine_code = pytest.mark.skipif(
    bool(config.DISABLE_JIT) or not has_dense_kernels(), reason="libraries are machine code, and so are their calls"
)


def hosted_session(proto, threads=1, **options):
    session = srt.InferenceSession(proto, srt.SessionOptions(threads, tuning="hosted", **options))
    assert session.plan.is_hosted, session.plan.describe()
    assert len(session.plan.steps) == 1
    return session


def mixed(rng, rows="rows", channels=16):
    """Layers with operators of onnxruntime's between them, a residual, and three outputs."""
    nodes = [
        node("MatMul", ["x", "v"], ["a"], name="first"),
        node("Relu", ["a"], ["b"]),
        node("Sin", ["b"], ["s"]),
        node("MatMul", ["s", "w"], ["c"], name="second"),
        node("Add", ["c", "x"], ["d"]),
        node("MatMul", ["d", "v"], ["e"], name="third"),
        node("Cos", ["e"], ["y"]),
    ]
    weights = {"v": sparse(rng, 32, 16).T.copy(), "w": sparse(rng, 16, 32).T.copy()}
    outputs = [info("y", rows, 32), info("s", rows, 32), info("d", rows, 16)]
    return model(nodes, [info("x", rows, channels)], outputs, weights)


def agrees(session, proto, feeds, names=None):
    """Hold a session against stock onnxruntime: floats up to roundings, all else to the bit."""
    for y, expected in zip(session.run(names, feeds), stock(proto, feeds, names), strict=True):
        assert (y.dtype, y.shape) == (expected.dtype, expected.shape)
        if y.dtype.kind == "f":
            np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
        else:
            np.testing.assert_array_equal(y, expected)
    return True


def rows_of(rng, count):
    return {"x": normal(rng, count, 16)}
