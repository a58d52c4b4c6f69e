"""Operators between sparse layers."""

import numpy as np
import pytest

import sparse_rt as srt
from tests.models.onnx_models import info, model, node, sparse


@pytest.mark.parametrize("op_type", ["Sigmoid", "Softplus", "Elu", "HardSwish", "Gelu"])
def test_functions_that_are_small_everywhere(op_type):
    """Where a network says no to all, its last function is a difference of ones, in onnxruntime as in ours."""
    start = {"Sigmoid": -14, "Softplus": -14, "Elu": 0, "HardSwish": -2.99999, "Gelu": -5.2}[op_type]
    bias = np.full(16, start, np.float32)
    nodes = [
        node("MatMul", ["x", "w"], ["a"]),
        node("Add", ["a", "b"], ["c"]),
        node(op_type, ["c"], ["y"], domain="com.microsoft" if op_type == "Gelu" else ""),
        node("MatMul", ["y", "w"], ["z"]),
    ]
    weight = sparse(np.random.default_rng(6), 16, 16).T.copy()
    proto = model(nodes, [info("x", 64, 16)], [info("z", 64, 16)], {"w": weight, "b": bias})
    x = np.random.default_rng(7).standard_normal((64, 16)).astype(np.float32) * np.float32(0.5 if start < -3 else 1e-6)
    assert [check.status for check in srt.verify(proto, None, {"x": x}).operators] in (["equal"], [])
