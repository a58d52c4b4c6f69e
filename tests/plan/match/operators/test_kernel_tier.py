"""The session's kernel tier reaches every kernel between layers."""

import numpy as np
import pytest
from numba.core import config
from sparse_rt_kernels.cpu import isa
from sparse_rt_kernels.threads import launch

from sparse_rt import InferenceSession, SessionOptions
from tests.models.onnx_models import INT8, info, model, node, sparse

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="these operators are machine code")

X = info("x", 1, 8, 12, 12)


def floats(rng, *operators):
    """A sparse convolution, operators in a row, and another one."""
    nodes = [node("Conv", ["x", "w"], ["v0"], name="first")]
    nodes += [node(op, [f"v{at}", *more], [f"v{at + 1}"], **given) for at, (op, more, given) in enumerate(operators)]
    nodes.append(node("Conv", [f"v{len(operators)}", "w"], ["y"], name="last"))
    values = {"w": sparse(rng, 8, 8, 1, 1), "d": rng.standard_normal((8, 1, 3, 3)).astype(np.float32)}
    return model(nodes, [X], [info("y", 1, 8, "p", "q")], values)


def quantised(rng, *nodes):
    """A sparse convolution to bytes `a`, nodes from what it dequantises to, `f`, to `r`, which becomes bytes."""
    around = [
        node("QuantizeLinear", ["x", "s", "z"], ["x_q"]),
        node("DequantizeLinear", ["x_q", "s", "z"], ["x_f"]),
        node("DequantizeLinear", ["w", "s"], ["w_f"]),
        node("Conv", ["x_f", "w_f"], ["c"]),
        node("QuantizeLinear", ["c", "s", "z"], ["a"]),
        node("DequantizeLinear", ["a", "s", "z"], ["f"]),
        *nodes,
        node("QuantizeLinear", ["r", "t", "z"], ["y"]),
    ]
    weight = (sparse(rng, 8, 8, 1, 1) * 100).clip(-127, 127).astype(np.int8)
    values = {"w": weight, "s": np.float32(0.05), "t": np.float32(0.04), "z": np.int8(3)}
    return model(around, [X], [info("y", 1, *"cpq", kind=INT8)], values)


MODELS = {
    "Gelu": lambda rng: floats(rng, ("Gelu", (), {"domain": "com.microsoft"})),
    "Sigmoid": lambda rng: floats(rng, ("Sigmoid", (), {})),
    "depthwise": lambda rng: floats(rng, ("Conv", ("d",), {"group": 8})),
    "QuantizeLinear": lambda rng: quantised(rng, node("Identity", ["f"], ["r"])),
    "Add": lambda rng: quantised(rng, node("Add", ["f", "x_f"], ["r"])),
    "Concat": lambda rng: quantised(rng, node("Concat", ["f", "x_f"], ["r"], axis=1)),
    "GlobalAveragePool": lambda rng: quantised(rng, node("GlobalAveragePool", ["f"], ["r"])),
    "Tanh": lambda rng: quantised(rng, node("Tanh", ["f"], ["r"])),
}


@pytest.mark.parametrize("tier", [*isa.supported_tiers()[1:2], *isa.supported_tiers()[2:][-1:]])
@pytest.mark.parametrize("name", MODELS)
def test_what_a_session_prepares_is_of_its_tier(name, tier, monkeypatch):
    asked, level = [], isa.level
    monkeypatch.setattr(isa, "level", lambda most=None: asked.append(most) or level(most))
    # A session prepares its calls; none of them is run here, or compiled.
    monkeypatch.setattr(launch, "kernel_task", lambda _: 0)
    options = SessionOptions(1, kernel_tier=tier, tuning="sparse")
    described = InferenceSession(MODELS[name](np.random.default_rng(3)), options).plan.describe()
    assert "onnxruntime" not in described
    assert asked
    assert set(asked) == {tier}
