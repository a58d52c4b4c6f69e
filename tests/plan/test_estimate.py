"""The estimate, which takes the place of a measurement where nothing may be measured."""

import numpy as np
import onnx_ir as ir
import pytest

from sparse_rt.graph.layers.find import find_layers
from sparse_rt.plan import estimate
from sparse_rt.plan.draft import Draft
from sparse_rt.plan.prepare.prepare import prepare
from tests.models.onnx_models import info, model, node, sparse


def test_what_selection_saves():
    assert estimate.saved_microseconds("n2m4", 128, 768, 768) > 100
    assert estimate.saved_microseconds("n2m4", 512, 256, 16) < 0  # transposing x and y costs more
    assert estimate.saved_microseconds("n2m4", 512, 16, 512) < 0
    assert estimate.saved_microseconds("n2m4", 512, 64, 128) > 0
    assert estimate.saved_microseconds("n2m4", 8, 16, 16) > 0  # few rows: nothing is transposed
    assert estimate.saved_microseconds("of another kind", 512, 16, 512) is None


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def draft_of(m, n, k, rng):
    proto = model(
        [node("MatMul", ["x", "w"], ["y"], name="l")], [info("x", m, k)], [info("y", m, n)], {"w": sparse(rng, n, k).T}
    )
    prepared = prepare(ir.from_proto(proto))
    return Draft(prepared, find_layers(prepared))


def test_the_estimate_looks_at_sizes_alone(rng, monkeypatch):
    monkeypatch.setattr(estimate.isa, "cpu_features", lambda: frozenset({"avx2", "fma"}))
    kept = estimate.estimated_decisions(draft_of(60000, 16, 16, rng)).layers["y"]
    assert kept.kernel is None
    assert "kept dense: n = 16, k = 16, selection is estimated to cost" in kept.reason
    for m in (8, "rows"):  # little to lose, or nobody knows
        assert not estimate.estimated_decisions(draft_of(m, 16, 16, rng)).layers
    assert not estimate.estimated_decisions(draft_of(60000, 64, 64, rng)).layers


def test_portable_kernels_are_estimated_to_lose(rng, monkeypatch):
    monkeypatch.setattr(estimate.isa, "cpu_features", frozenset)
    kept = estimate.estimated_decisions(draft_of(8, 16, 16, rng)).layers["y"]
    assert kept.kernel is None
    assert "portable" in kept.reason
