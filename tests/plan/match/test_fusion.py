"""Factors and shifts of a channel behind a layer, BatchNormalization above all, become part of the layer."""

import numpy as np
import pytest

import sparse_rt as srt
from sparse_rt.graph.passes.compress import compress
from tests.models.onnx_models import (
    UINT8,
    compare,
    info,
    model,
    node,
    normal,
    sparse,
    sparse_int8,
    sparse_session,
    stock,
)


@pytest.fixture
def rng():
    return np.random.default_rng(23)


def statistics(rng, n, prefix=""):
    return {
        f"{prefix}scale": normal(rng, n),
        f"{prefix}shift": normal(rng, n),
        f"{prefix}mean": normal(rng, n),
        f"{prefix}var": rng.uniform(0.1, 2, n).astype(np.float32),
    }


def normalise(x, y, **attributes):
    return node("BatchNormalization", [x, "scale", "shift", "mean", "var"], [y], **attributes)


def core(rng, kind):
    """A layer x -> a of 9 output channels, with its constants, and the shapes of x and y."""
    if kind == "conv":
        constants = {"w": sparse(rng, 9, 6, 3, 2), "b": normal(rng, 9)}
        return node("Conv", ["x", "w", "b"], ["a"]), constants, ("b", 6, 5, 4), ("b", 9, 3, 3)
    if kind == "conv 1-D":
        return node("Conv", ["x", "w"], ["a"]), {"w": sparse(rng, 9, 7, 3)}, ("b", 7, 6), ("b", 9, 4)
    if kind == "conv transpose":
        constants = {"w": sparse(rng, 9, 6, 2, 2).swapaxes(0, 1).copy(), "b": normal(rng, 9)}
        layer = node("ConvTranspose", ["x", "w", "b"], ["a"], strides=[2, 2])
        return layer, constants, ("b", 6, 3, 2), ("b", 9, 6, 4)
    if kind == "gemm":
        constants = {"w": sparse(rng, 9, 10), "b": normal(rng, 9)}
        return node("Gemm", ["x", "w", "b"], ["a"], transB=1, alpha=0.5, beta=3.0), constants, ("b", 10), ("b", 9)
    return node("MatMul", ["w", "x"], ["a"]), {"w": sparse(rng, 9, 10)}, ("b", 10, 4), ("b", 9, 4)


KINDS = ["conv", "conv 1-D", "conv transpose", "gemm", "left"]


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_batch_normalization(rng, kind, compressed):
    layer, constants, x, y = core(rng, kind)
    proto = model(
        [layer, normalise("a", "c", epsilon=1e-3), node("Relu", ["c"], ["y"])],
        [info("x", *x)],
        [info("y", *y)],
        {**constants, **statistics(rng, 9)},
    )
    feeds = {"x": normal(rng, *(2 if size == "b" else size for size in x))}
    session = compare(compress(proto) if compressed else proto, feeds, layers=1, islands=0)
    assert session.explain()[0].pattern == "2:4"
    assert srt.verify(compress(proto) if compressed else proto, proto, feeds).status == "equal"


@pytest.mark.parametrize("kind", KINDS)
def test_arithmetic_with_constants_of_each_channel(rng, kind):
    layer, constants, x, y = core(rng, kind)
    axes = [1] * (1 if kind == "gemm" else len(x))
    axes[0 if kind == "gemm" else 1] = 9
    per_channel = {name: normal(rng, *axes[(1 if kind != "gemm" else 0) :]) for name in ("p", "q", "r")}
    proto = model(
        [
            layer,
            node("Mul", ["p", "a"], ["c"]),
            node("Sub", ["c", "q"], ["d"]),
            node("Div", ["d", "r"], ["e"]),
            node("Add", ["half", "e"], ["f"]),
            node("Max", ["f", "low"], ["g"]),
            node("Min", ["high", "g"], ["y"]),
        ],
        [info("x", *x)],
        [info("y", *y)],
        {**constants, **per_channel, "half": np.float32(0.5), "low": np.float32(-0.4), "high": np.float32(0.6)},
    )
    feeds = {"x": normal(rng, *(2 if size == "b" else size for size in x))}
    compare(proto, feeds, layers=1, islands=0)


@pytest.mark.parametrize(
    "nodes",
    [
        [node("Div", ["one", "a"], ["y"])],
        [node("Sub", ["one", "a"], ["y"])],
        [node("Div", ["a", "zeros"], ["y"])],
        [node("Relu", ["a"], ["c"]), node("Mul", ["c", "one"], ["y"])],
        [node("Max", ["a", "one", "one"], ["y"])],
        [node("Mul", ["a", "a"], ["y"])],
        [node("Max", ["a", "wide"], ["y"])],
    ],
    ids=["constant / y", "constant - y", "y / 0", "after an activation", "three operands", "square", "more axes"],
)
def test_what_is_no_factor_or_shift_stays(rng, nodes):
    constants = {"w": sparse(rng, 9, 10), "one": np.float32(1), "zeros": np.zeros(9, np.float32)}
    constants["wide"] = np.ones((1, 1, 1), np.float32)
    rank = 3 if "wide" in nodes[0].input else 2
    proto = model(
        [node("Gemm", ["x", "w"], ["a"], transB=1), *nodes],
        [info("x", "b", 10)],
        [info("y", *(["c"] * (rank - 2)), "b", 9)],
        constants,
    )
    compare(proto, {"x": normal(rng, 3, 10)}, layers=1)


@pytest.mark.parametrize("kind", ["rows", "another axis", "not constant"])
def test_batch_normalization_that_stays(rng, kind):
    constants = {"w": sparse(rng, 9, 10).T.copy(), **statistics(rng, 9)}
    x, y = ("b", 10), ("b", 9)
    if kind == "another axis":  # the channels are the last axis, BatchNormalization's the second
        x, y = ("b", 9, 10), ("b", 9, 9)
    inputs = [info("x", *x)]
    feeds = {"x": normal(rng, *(2 if size == "b" else size for size in x))}
    if kind == "not constant":
        feeds["mean"] = constants.pop("mean")
        inputs.append(info("mean", 9))
    after = node("Identity", ["a"], ["c"]) if kind != "rows" else node("Softmax", ["a"], ["c"])
    proto = model([node("MatMul", ["x", "w"], ["a"]), after, normalise("c", "y")], inputs, [info("y", *y)], constants)
    compare(proto, feeds, layers=1)


def test_batch_normalization_between_quantised_tensors(rng):
    """The factor joins the scale of the requantisation; the integers may differ from floats by a rounding."""
    constants = {
        "w": sparse_int8(rng, 9, 6, 3, 3),
        "ws": rng.uniform(0.01, 0.02, 9).astype(np.float32),
        "wz": np.zeros(9, np.int8),
        "b": normal(rng, 9),
        "xs": np.float32(0.02),
        "xz": np.uint8(120),
        "ys": np.float32(0.05),
        **statistics(rng, 9),
    }
    proto = model(
        [
            node("DequantizeLinear", ["x", "xs", "xz"], ["xf"]),
            node("DequantizeLinear", ["w", "ws", "wz"], ["wf"], axis=0),
            node("Conv", ["xf", "wf", "b"], ["a"]),
            normalise("a", "c"),
            node("QuantizeLinear", ["c", "ys", "xz"], ["y"]),
        ],
        [info("x", "b", 6, 5, 5, kind=UINT8)],
        [info("y", "b", 9, 3, 3, kind=UINT8)],
        constants,
    )
    feeds = {"x": rng.integers(0, 256, (2, 6, 5, 5), np.uint8)}
    session = sparse_session(proto)
    assert [type(step).__name__ for step in session.plan.steps] == ["SparseStep"]
    ours, theirs = session.run(None, feeds)[0], stock(proto, feeds)[0]
    assert np.abs(ours.astype(int) - theirs).max() <= 1
    assert np.mean(ours != theirs) < 0.02


def test_dynamic_quantisation_takes_factors_too(rng):
    constants = {
        "w": sparse_int8(rng, 9, 12).T.copy(),
        "ws": np.float32(0.01),
        "p": normal(rng, 9),
        "b": normal(rng, 9),
    }
    proto = model(
        [
            node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
            node("MatMulInteger", ["q", "w", "z"], ["i"]),
            node("Cast", ["i"], ["f"], to=1),
            node("Mul", ["s", "ws"], ["sw"]),
            node("Mul", ["f", "sw"], ["a"]),
            node("Mul", ["a", "p"], ["c"]),
            node("Add", ["c", "b"], ["y"]),
        ],
        [info("x", "b", 12)],
        [info("y", "b", 9)],
        constants,
    )
    compare(proto, {"x": normal(rng, 4, 12)}, layers=1)
