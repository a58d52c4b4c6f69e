"""Scales of 0, negative, infinite, NaN, tiny and huge: as onnxruntime computes them, or left to it; never an error."""

import itertools

import numpy as np
import pytest

from tests.models.onnx_models import UINT8, info, model, node, sparse_int8, sparse_session, stock

EXTREME = [0.0, -0.02, np.nan, 1e-45, 1e-38, 1e-20, 1e10, 1e20, 3e38]
USUAL = np.float32(0.02)


def constants(rng, **scales):
    held = {"w": sparse_int8(rng, 8, 8).T.copy(), "zw": np.int8(0), "z": np.uint8(120)}
    return held | {name: np.float32(scales.get(name, USUAL)) for name in ("ws", "xs", "ps", "rs", "ys")}


def product():
    return [
        node("DequantizeLinear", ["x", "xs", "z"], ["xf"]),
        node("DequantizeLinear", ["w", "ws", "zw"], ["wf"]),
        node("MatMul", ["xf", "wf"], ["p"]),
        node("QuantizeLinear", ["p", "ps", "z"], ["q"]),
    ]


ENDS = {
    "layer": [],
    "float": [node("DequantizeLinear", ["q", "ps", "z"], ["y"])],
    "add": [
        node("DequantizeLinear", ["q", "ps", "z"], ["f"]),
        node("DequantizeLinear", ["r", "rs", "z"], ["g"]),
        node("Add", ["f", "g"], ["a"]),
        node("QuantizeLinear", ["a", "ys", "z"], ["y"]),
    ],
    "concat": [
        node("DequantizeLinear", ["q", "ps", "z"], ["f"]),
        node("DequantizeLinear", ["r", "rs", "z"], ["g"]),
        node("Concat", ["f", "g"], ["a"], axis=1),
        node("QuantizeLinear", ["a", "ys", "z"], ["y"]),
    ],
    "sigmoid": [
        node("DequantizeLinear", ["q", "ps", "z"], ["f"]),
        node("Sigmoid", ["f"], ["a"]),
        node("QuantizeLinear", ["a", "ys", "z"], ["y"]),
    ],
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("scale", EXTREME)
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_one_extreme_scale(end, scale):
    rng = np.random.default_rng(6)
    nodes = [*product(), *ENDS[end]]
    read = {name for one in nodes for name in one.input}
    feeds = {name: rng.integers(0, 256, (6, 8)).astype(np.uint8) for name in ("x", "r") if name in read}
    inputs = [info(name, None, 8, kind=UINT8) for name in feeds]
    out = "y" if ENDS[end] else "q"
    kind = 1 if end == "float" else UINT8
    for name in sorted(read & {"ws", "xs", "ps", "rs", "ys"}):
        proto = model(nodes, inputs, [info(out, None, None, kind=kind)], constants(rng, **{name: scale}))
        compare(proto, feeds, f"{end}, {name} = {scale}")


@pytest.mark.parametrize("scale", [1e-30, 1e-10, 1e10, 1e30])
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_two_extreme_scales(scale):
    """That undo each other, or do not."""
    rng = np.random.default_rng(7)
    nodes = [*product(), *ENDS["add"]]
    feeds = {name: rng.integers(0, 256, (6, 8)).astype(np.uint8) for name in ("x", "r")}
    inputs = [info(name, None, 8, kind=UINT8) for name in feeds]
    for a, b in itertools.combinations(("ws", "xs", "ps", "rs", "ys"), 2):
        for second in (scale, np.float32(1) / np.float32(scale)):
            held = constants(rng, **{a: scale, b: second})
            compare(
                model(nodes, inputs, [info("y", None, 8, kind=UINT8)], held), feeds, f"{a} = {scale}, {b} = {second}"
            )


def compare(proto, feeds, where):
    """Equal to onnxruntime, optimised or not: what it fuses divides by a scale of 0 in another way."""
    try:
        (expected,) = stock(proto, feeds)
    except Exception:
        return
    (y,) = sparse_session(proto).run(None, feeds)
    if not is_near(y, expected):
        (expected,) = stock(proto, feeds, optimise=False)
        assert is_near(y, expected), where


def is_near(y, expected):
    if y.dtype == np.float32:
        return np.allclose(y, expected, rtol=1e-5, atol=0, equal_nan=True)
    return np.abs(y.astype(int) - expected).max() <= 1
