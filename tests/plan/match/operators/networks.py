"""Models of a few layers with operators between them, and checks of how they run."""

import numpy as np

from tests.models.onnx_models import INT8, UINT8, info, model, node, normal, sparse, sparse_session, stock

KINDS = {np.uint8: UINT8, np.int8: INT8}


def check(proto, feeds, kinds, *, steps=0, threads=1, tolerance=2e-5):
    """Run in both sessions; `kinds` are the operators that must be steps of ours, `steps` bounds how bytes differ."""
    session = sparse_session(proto, threads)
    described = [step.describe().split()[0] for step in session.plan.steps]
    assert [kind for kind in described if kind in kinds] == list(kinds), session.plan.describe()
    assert "onnxruntime" not in described, session.plan.describe()
    for y, reference in zip(session.run(None, feeds), stock(proto, feeds), strict=True):
        assert y.dtype == reference.dtype
        assert y.shape == reference.shape
        if y.dtype == np.float32:
            largest = max(1.0, np.abs(reference).max(initial=0))
            np.testing.assert_allclose(y, reference, rtol=tolerance, atol=tolerance * largest)
        else:
            assert np.abs(y.astype(int) - reference.astype(int)).max(initial=0) <= steps


def layers(rng, *names, width=8):
    """Gemm layers from x to each name."""
    nodes = [node("MatMul", ["x", f"w_{name}"], [name]) for name in names]
    return nodes, {f"w_{name}": sparse(rng, width, width).T.copy() for name in names}


def quantised_layer(rng, name, dtype, n=8):
    """DequantizeLinear of x_q, Conv, QuantizeLinear to `name`."""
    zero = np.iinfo(dtype).min + 100
    values = {
        f"{name}_w": (sparse(rng, n, 8, 1, 1) * 200).clip(-127, 127).astype(np.int8),
        f"{name}_ws": np.float32(0.01),
        f"{name}_s": np.float32(rng.uniform(0.02, 0.06)),
        f"{name}_z": np.array(zero, dtype),
    }
    nodes = [
        node("DequantizeLinear", [f"{name}_w", f"{name}_ws"], [f"{name}_wf"]),
        node("Conv", ["x_f", f"{name}_wf"], [f"{name}_f"]),
        node("QuantizeLinear", [f"{name}_f", f"{name}_s", f"{name}_z"], [name]),
        node("DequantizeLinear", [name, f"{name}_s", f"{name}_z"], [f"{name}_d"]),
    ]
    return nodes, values


def quantised_model(rng, dtype, names, nodes, values, outputs):
    """x -> Q -> DQ -> one quantised convolution a name -> nodes."""
    built = [
        node("QuantizeLinear", ["x", "x_s", "x_z"], ["x_q"]),
        node("DequantizeLinear", ["x_q", "x_s", "x_z"], ["x_f"]),
    ]
    held = {"x_s": np.float32(0.03), "x_z": np.array(np.iinfo(dtype).min + 128, dtype), **values}
    for name in names:
        more, weights = quantised_layer(rng, name, dtype)
        built += more
        held |= weights
    return model([*built, *nodes], [info("x", "b", 8, "h", "w")], outputs, held)


def quantised_block(rng, dtype, between, outputs):
    """A quantised product, nodes from its result a_f (before, x_f) to n, and the next product of n quantised."""
    low = np.iinfo(dtype).min
    weights = {
        "x_s": np.float32(0.03),
        "x_z": np.array(low + 128, dtype),
        "a_s": np.float32(0.04),
        "a_z": np.array(low + 120, dtype),
        "n_s": np.float32(0.02),
        "n_z": np.array(low + 130, dtype),
        "w": (sparse(rng, 8, 8) * 200).clip(-127, 127).astype(np.int8).T.copy(),
        "w_s": np.float32(0.01),
        "bias": normal(rng, 8),
        "gamma": normal(rng, 8),
        "beta": normal(rng, 8),
        **{name: np.float32(value) for name, value in {"root": 2**0.5, "one": 1, "half": 0.5}.items()},
    }
    nodes = [
        node("QuantizeLinear", ["x", "x_s", "x_z"], ["x_q"]),
        node("DequantizeLinear", ["x_q", "x_s", "x_z"], ["x_f"]),
        node("DequantizeLinear", ["w", "w_s"], ["w_f"]),
        node("MatMul", ["x_f", "w_f"], ["m"]),
        node("QuantizeLinear", ["m", "a_s", "a_z"], ["m_q"]),
        node("DequantizeLinear", ["m_q", "a_s", "a_z"], ["a_f"]),
        *between,
        node("QuantizeLinear", ["n", "n_s", "n_z"], ["n_q"]),
        node("DequantizeLinear", ["n_q", "n_s", "n_z"], ["n_f"]),
        node("MatMul", ["n_f", "w_f"], ["y"]),
    ]
    return model(nodes, [info("x", "b", "t", 8)], [info(name, "b", "t", 8) for name in outputs], weights)


def check_block(rng, proto, kinds):
    """Between the products there are steps of these kinds, and nothing is off by more than a step of n's bytes."""
    every = ["QuantizeLinear", "DequantizeLinear", "Gelu", "LayerNormalization", "Add"]
    described = [step.describe().split()[0] for step in sparse_session(proto).plan.steps]
    assert [kind for kind in described if kind in every] == ["QuantizeLinear", *kinds]
    check(proto, {"x": normal(rng, 2, 7, 8)}, ["QuantizeLinear", *kinds], tolerance=0.05)
