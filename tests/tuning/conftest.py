"""A small model, and sessions whose tuning sees the times that a test makes up."""

import numpy as np
import pytest

import sparse_rt as srt
from sparse_rt.tuning import tuner
from sparse_rt.tuning.store import Store
from tests.models.onnx_models import info, model, node, sparse

FEW, MANY = 8, 64


@pytest.fixture
def rng():
    return np.random.default_rng(3)


@pytest.fixture
def proto(rng):
    """Two sparse layers with a Relu between them, the second of many channels, and an operator for onnxruntime."""
    return model(
        [
            node("MatMul", ["x", "v"], ["a"], name="few"),
            node("Relu", ["a"], ["b"]),
            node("MatMul", ["b", "w"], ["c"], name="many"),
            node("Sin", ["c"], ["y"]),
        ],
        [info("x", 3, 16)],
        [info("y", 3, MANY)],
        {"v": sparse(rng, FEW, 16).T.copy(), "w": sparse(rng, MANY, FEW).T.copy()},
    )


@pytest.fixture
def tuned(proto, monkeypatch, tmp_path):
    """Make a session that measurements are injected into, with a cache of its own."""

    def make(fake, mode="on", source=proto, **options):
        monkeypatch.setattr(tuner, "measure", fake)
        monkeypatch.setattr(tuner, "Store", lambda: Store(tmp_path / "tuning"))
        return srt.InferenceSession(source, srt.SessionOptions(1, tuning=mode, **options))

    make.folder = tmp_path / "tuning"
    return make
