"""Which kernel runs a layer, or why none."""

import numpy as np
import pytest
from sparse_rt_kernels.product import registry

from tests.models.onnx_models import compare, info, model, node, normal, sparse


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def test_no_kernel_for_this_cpu_is_a_reason(rng, monkeypatch):
    def select(dtype, format, tier):
        raise LookupError(dtype)

    monkeypatch.setattr(registry, "select", select)
    proto = model(
        [node("MatMul", ["x", "w"], ["y"])], [info("x", "b", 8)], [info("y", "b", 8)], {"w": sparse(rng, 8, 8).T.copy()}
    )
    session = compare(proto, {"x": normal(rng, 3, 8)}, layers=0, islands=1)
    assert "no kernel" in session.explain()[0].reason
