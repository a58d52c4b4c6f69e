"""Our session and stock onnxruntime as backends of ONNX's own test suite, ``onnx.backend.test``."""

import numpy as np
import onnx
import onnxruntime as ort
from onnx.backend.base import Backend, BackendRep

import sparse_rt as srt


class SessionRep(BackendRep):
    """A model that was loaded."""

    def __init__(self, session):
        self.session = session

    def run(self, inputs, **_):
        names = [item.name for item in self.session.get_inputs()]
        return tuple(self.session.run(None, dict(zip(names, inputs, strict=True))))


class SparseBackend(Backend):
    """sparse_rt."""

    @classmethod
    def prepare(cls, model, device="CPU", **_):
        options = srt.SessionOptions(intra_op_num_threads=1, tuning="sparse")
        options.log_severity_level = 4
        return SessionRep(srt.InferenceSession(serialised(model), options))

    @classmethod
    def supports_device(cls, device):
        return device == "CPU"


class StockBackend(SparseBackend):
    """onnxruntime."""

    @classmethod
    def prepare(cls, model, device="CPU", **_):
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        return SessionRep(ort.InferenceSession(serialised(model), options, providers=["CPUExecutionProvider"]))


def serialised(model):
    return model.SerializeToString() if isinstance(model, onnx.ModelProto) else model


def answer(backend, model, inputs):
    """Return the outputs and the session; an error in place of what it kept from happening."""
    try:
        rep = backend.prepare(model)
    except Exception as error:  # both have many types
        return error, None
    try:
        return rep.run(inputs), rep.session
    except Exception as error:
        return error, rep.session


def same(found, expected, exact):
    """Return whether two outputs are equal: bit for bit, or about."""
    if isinstance(expected, list | tuple):
        return len(found) == len(expected) and all(same(*pair, exact) for pair in zip(found, expected, strict=True))
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(same(found[key], expected[key], exact) for key in expected)
    if expected is None or found is None:
        return found is expected
    found, expected = np.asarray(found), np.asarray(expected)
    if (found.shape, found.dtype) != (expected.shape, expected.dtype):
        return False
    if expected.dtype.kind not in "fc":
        return bool(np.array_equal(found, expected))
    if exact:
        return bool(np.array_equal(found, expected, equal_nan=True))
    peak = float(np.abs(expected[np.isfinite(expected)]).max(initial=0))
    return bool(np.allclose(found, expected, rtol=1e-3, atol=1e-4 * peak + 1e-6, equal_nan=True))
