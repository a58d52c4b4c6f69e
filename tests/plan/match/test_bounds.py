"""Clip, Relu, Max and Min of infinities, NaN and the largest numbers, fused with what stands before them."""

import numpy as np
import pytest

from tests.models.onnx_models import FLOAT, INT8, UINT8, info, model, node, sparse_session, stock

MOST = np.finfo(np.float32).max
ODD = [np.inf, -np.inf, np.nan, 1.0, -1.0, MOST, -MOST, 0.0, 5.0, 1e-40, -1e-40, 8.0, 2.5, -7.0, 1e38]
BOUNDS = {"zero": 0.0, "six": 6.0, "nan": np.nan, "low": -np.inf, "high": np.inf, "negative": -3.0, "most": MOST}
BOUNDS = {name: np.float32(value) for name, value in BOUNDS.items()} | {"vector": np.zeros(1, np.float32)}
#: Nodes between c and y.
ENDS = {
    "relu": [("Relu", ["c"])],
    "only a lower bound": [("Clip", ["c", "zero"])],
    "only an upper bound": [("Clip", ["c", "", "six"])],
    "both": [("Clip", ["c", "zero", "six"])],
    "none": [("Clip", ["c"])],
    "empty names": [("Clip", ["c", "", ""])],
    "in no order": [("Clip", ["c", "six", "zero"])],
    "equal": [("Clip", ["c", "six", "six"])],
    "lower nan": [("Clip", ["c", "nan"])],
    "upper nan": [("Clip", ["c", "", "nan"])],
    "one nan": [("Clip", ["c", "nan", "six"])],
    "infinite": [("Clip", ["c", "low", "high"])],
    "all cut": [("Clip", ["c", "high"])],
    "all cut from above": [("Clip", ["c", "", "low"])],
    "a negative upper bound": [("Clip", ["c", "", "negative"])],
    "the largest": [("Clip", ["c", "", "most"])],
    "a vector": [("Clip", ["c", "vector"])],
    "relu, upper": [("Relu", ["c"]), ("Clip", ["d", "", "six"])],
    "upper, relu": [("Clip", ["c", "", "six"]), ("Relu", ["d"])],
    "lower, upper": [("Clip", ["c", "zero"]), ("Clip", ["d", "", "six"])],
    "max": [("Max", ["c", "zero"])],
    "min": [("Min", ["six", "c"])],
    "max of nan": [("Max", ["c", "nan"])],
    "max, clip": [("Max", ["c", "zero"]), ("Clip", ["d", "", "six"])],
}
WEIGHT = np.zeros((8, 8), np.float32)
WEIGHT[:, 0] = np.linspace(0.25, 1, 8)


def ends(nodes):
    """Nodes from c over d to y."""
    return [
        node(op_type, inputs, ["y" if number == len(nodes) - 1 else "d"])
        for number, (op_type, inputs) in enumerate(nodes)
    ]


def before(place):
    """Nodes that end in c, of which the weight's first channel alone counts; constants; feeds."""
    rows = np.zeros((len(ODD), 8), np.float32)
    rows[:, 0] = ODD
    image = np.ascontiguousarray(rows.T[None, :, None, :])
    zeros = np.zeros_like(rows)
    return {
        "MatMul": ([node("MatMul", ["x", "w"], ["c"])], WEIGHT.T, {"x": rows}),
        "left": ([node("MatMul", ["w", "x"], ["c"])], WEIGHT, {"x": rows.T}),
        "Gemm": ([node("Gemm", ["x", "w", "zeros"], ["c"])], WEIGHT.T, {"x": rows}),
        "Conv": ([node("Conv", ["x", "w"], ["c"])], WEIGHT[:, :, None, None], {"x": image}),
        "residual": (
            [node("MatMul", ["x", "w"], ["p"]), node("Add", ["p", "r"], ["c"])],
            WEIGHT.T,
            {"x": rows, "r": zeros},
        ),
        "Add": (
            [node("MatMul", ["x", "w"], ["p"]), node("MatMul", ["r", "w"], ["q"]), node("Add", ["p", "q"], ["c"])],
            WEIGHT.T,
            {"x": rows, "r": zeros},
        ),
    }[place]


@pytest.mark.parametrize("place", ["MatMul", "left", "Gemm", "Conv", "residual", "Add"])
def test_bounds_of_floats(place):
    nodes, weight, feeds = before(place)
    held = {"w": np.ascontiguousarray(weight), "zeros": np.zeros(8, np.float32), **BOUNDS}
    feeds = {name: np.ascontiguousarray(value) for name, value in feeds.items()}
    inputs = [info(name, *value.shape) for name, value in feeds.items()]
    for name, end in ENDS.items():
        proto = model([*nodes, *ends(end)], inputs, [info("y", *(None for _ in feeds["x"].shape))], held)
        session = sparse_session(proto)
        assert any(report.kernel for report in session.explain())
        np.testing.assert_array_equal(session.run(None, feeds)[0], stock(proto, feeds)[0], err_msg=f"{place}, {name}")


@pytest.mark.parametrize("attributes", [{}, {"min": 0.0}, {"max": 2.0}, {"min": -1.0, "max": 1.0}])
def test_bounds_as_attributes(attributes):
    nodes, weight, feeds = before("MatMul")
    nodes = [*nodes, node("Clip", ["c"], ["y"], **attributes)]
    held = {"w": np.ascontiguousarray(weight)}
    proto = model(nodes, [info("x", None, 8)], [info("y", None, 8)], held, opset=8)
    np.testing.assert_array_equal(sparse_session(proto).run(None, feeds)[0], stock(proto, feeds)[0])


@pytest.mark.parametrize("kind", [UINT8, INT8])
@pytest.mark.parametrize("place", ["layer", "residual"])
@pytest.mark.parametrize("scale", [0.013, 0.05, 2.0])
def test_bounds_before_bytes(kind, place, scale):
    rng = np.random.default_rng(3)
    dtype = np.uint8 if kind == UINT8 else np.int8
    limits = np.iinfo(dtype)
    weight = np.zeros((8, 8), np.int8)
    weight[:, ::4] = rng.integers(-127, 128, (8, 2))
    held = {"w": weight.T.copy(), "zero_w": np.int8(0), "ws": np.float32(0.0217), "s": np.float32(0.03), **BOUNDS}
    held |= {"z": np.array(limits.min + 120, dtype), "ys": np.float32(scale), "yz": np.array(limits.min + 7, dtype)}
    nodes = [
        node("DequantizeLinear", ["x", "s", "z"], ["xf"]),
        node("DequantizeLinear", ["w", "ws", "zero_w"], ["wf"]),
        node("MatMul", ["xf", "wf"], ["c" if place == "layer" else "p"]),
    ]
    if place == "residual":
        nodes += [
            node("QuantizeLinear", ["p", "s", "z"], ["pq"]),
            node("DequantizeLinear", ["pq", "s", "z"], ["pf"]),
            node("DequantizeLinear", ["r", "ws", "z"], ["rf"]),
            node("Add", ["pf", "rf"], ["c"]),
        ]
    feeds = {name: rng.integers(limits.min, limits.max + 1, (64, 8)).astype(dtype) for name in ("x", "r")}
    feeds = feeds if place == "residual" else {"x": feeds["x"]}
    inputs = [info(name, None, 8, kind=kind) for name in feeds]
    for name, end in ENDS.items():
        chain = [*nodes, *ends(end)]
        chain[-1].output[0] = "e"
        proto = model(
            [*chain, node("QuantizeLinear", ["e", "ys", "yz"], ["y"])], inputs, [info("y", None, 8, kind=kind)], held
        )
        y, expected = sparse_session(proto).run(None, feeds)[0], stock(proto, feeds)[0]
        apart = np.abs(y.astype(int) - expected)
        # Next to a tie the sum of two quantised tensors may go either way.
        assert apart.max() <= (place == "residual"), name
        assert (apart > 0).mean() < 0.02, name


def test_float_is_the_only_type():
    """Bounds of integers are none of ours."""
    weight = np.zeros((8, 8), np.int8)
    weight[:, ::4] = 3
    nodes = [node("MatMulInteger", ["x", "w"], ["c"]), node("Clip", ["c", "low", "high"], ["y"])]
    held = {"w": weight.T.copy(), "low": np.int32(10), "high": np.int32(500)}
    proto = model(nodes, [info("x", None, 8, kind=UINT8)], [info("y", None, 8, kind=6)], held)
    feeds = {"x": np.random.default_rng(0).integers(0, 256, (5, 8)).astype(np.uint8)}
    np.testing.assert_array_equal(sparse_session(proto).run(None, feeds)[0], stock(proto, feeds)[0])
    assert FLOAT not in {value.type.tensor_type.elem_type for value in proto.graph.input}
