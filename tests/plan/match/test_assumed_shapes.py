"""Whatever is fused: the shapes, and the axes along which constants are broadcast, are onnxruntime's."""

import itertools

import numpy as np
import pytest
from numba.core import config

from tests.models.onnx_models import (
    FLOAT,
    INT64,
    UINT8,
    info,
    model,
    node,
    normal,
    sparse,
    sparse_int8,
    sparse_session,
    stock,
)

RANKS = ("unknown", "declared", "computed")
X = {"left": [(8,), (8, 1), (8, 3), (8, 8), (2, 8, 3)], "right": [(8,), (1, 8), (3, 8), (8, 8), (2, 3, 8)]}


@pytest.fixture
def rng():
    return np.random.default_rng(9)


def untyped(name, kind=FLOAT):
    value = info(name, kind=kind)
    value.type.tensor_type.ClearField("shape")
    return value


def same(proto, feeds):
    """Both sessions give the same, or both refuse."""
    try:
        expected = stock(proto, feeds)
    except Exception:
        with pytest.raises(Exception, match=r"."):
            sparse_session(proto).run(None, feeds)
        return False
    for y, reference in zip(sparse_session(proto).run(None, feeds), expected, strict=True):
        assert y.dtype == reference.dtype
        assert y.shape == reference.shape
        np.testing.assert_allclose(y, reference, rtol=1e-4, atol=1e-4)
    return True


def constants(n, m):
    shapes = [
        (),
        (1,),
        (n,),
        (1, n),
        (n, 1),
        (1, n, 1, 1),
        (n, 1, 1),
        (m,),
        (m, 1),
        (3, 1),
        (1, 1),
        (1,) * 5,
        (2, n, m),
    ]
    return list(dict.fromkeys(shapes))


def chain(rng, side, rank, x_shape, op_type, constant, n):
    weight = sparse(rng, n, 8)
    nodes = [node("MatMul", ["w", "t"] if side == "left" else ["t", "w"], ["p"]), node(op_type, ["p", "c"], ["y"])]
    inputs, feeds = [untyped("x")], {"x": normal(rng, *x_shape)}
    if rank == "declared":
        inputs = [info("x", *(None for _ in x_shape))]
    first = node("Identity", ["x"], ["t"])
    if rank == "computed":
        inputs = [info("x", *(None for _ in x_shape)), info("s", None, kind=INT64)]
        feeds["s"], first = np.array(x_shape), node("Reshape", ["x", "s"], ["t"])
    held = {"w": weight if side == "left" else np.ascontiguousarray(weight.T), "c": constant}
    return model([first, *nodes], inputs, [untyped("y")], held), feeds


@pytest.mark.parametrize("n", [8, 1])
@pytest.mark.parametrize("rank", RANKS)
@pytest.mark.parametrize(("side", "x_shape"), [(side, shape) for side in X for shape in X[side]])
def test_a_constant_after_a_product(rng, side, x_shape, rank, n):
    m = x_shape[-1] if side == "left" else (1, *x_shape)[-2]
    ran = 0
    for shape, op_type in itertools.product(constants(n, m), ("Add", "Mul")):
        proto, feeds = chain(rng, side, rank, x_shape, op_type, rng.uniform(0.5, 2, shape).astype(np.float32), n)
        ran += same(proto, feeds)
    assert ran >= 12


@pytest.mark.parametrize("first", ["Mul", "Div"])
@pytest.mark.parametrize(("a", "b"), [(1e-25, 1e25), (1e25, 1e25), (1e-39, 1e30), (0.0, 2.0)])
def test_factors_that_leave_float32_together(rng, first, a, b):
    weight = {"w": sparse(rng, 8, 8), "a": np.float32(a), "b": np.float32(b)}
    nodes = [node("MatMul", ["x", "w"], ["p"]), node(first, ["p", "a"], ["q"]), node("Mul", ["q", "b"], ["r"])]
    proto = model([*nodes, node("Mul", ["r", "a"], ["y"])], [info("x", None, 8)], [info("y", None, None)], weight)
    feeds = {"x": normal(rng, 3, 8) * np.float32(1e-10)}
    for y, reference in zip(sparse_session(proto).run(None, feeds), stock(proto, feeds), strict=True):
        np.testing.assert_allclose(y, reference, rtol=1e-4, atol=0)


@pytest.mark.skipif(bool(config.DISABLE_JIT), reason="these operators are machine code")
@pytest.mark.parametrize(("opset", "axis"), [(11, None), (11, 1), (11, -1), (13, None), (13, 1), (13, 0)])
@pytest.mark.parametrize("x_shape", [(3, 8), (2, 3, 8)])
@pytest.mark.parametrize("noted", [None, 2, 3])
def test_softmax_whose_rank_is_noted_wrongly(rng, opset, axis, x_shape, noted):
    weight = {"w": np.ascontiguousarray(sparse(rng, 20, 8).T)}
    attributes = {} if axis is None else {"axis": axis}
    nodes = [node("MatMul", ["x", "w"], ["h"]), node("Softmax", ["h"], ["y"], **attributes)]
    proto = model(nodes, [untyped("x")], [untyped("y")], weight, opset=opset)
    if noted is not None:
        proto.graph.value_info.append(info("h", *(None for _ in range(noted))))
    assert same(proto, {"x": normal(rng, *x_shape)})


@pytest.mark.parametrize("shape", [(), (1,), (1, 1), (1, 1, 1)])
@pytest.mark.parametrize("x_shape", [(), (8,), (3, 8)])
def test_gelu_written_out_with_constants_that_have_axes(rng, shape, x_shape):
    nodes = [
        node("Div", ["x", "root"], ["d"]),
        node("Erf", ["d"], ["e"]),
        node("Add", ["e", "one"], ["f"]),
        node("Mul", ["x", "f"], ["g"]),
        node("Mul", ["g", "half"], ["h"]),
        node("Expand", ["h", "eight"], ["k"]) if x_shape == () else node("Identity", ["h"], ["k"]),
        node("MatMul", ["k", "w"], ["y"]),
    ]
    held = {"root": np.full(shape, 2**0.5), "one": np.ones(shape), "half": np.full(shape, 0.5)}
    held = {name: value.astype(np.float32) for name, value in held.items()}
    proto = model(nodes, [untyped("x")], [untyped("y")], held | {"w": sparse(rng, 8, 8), "eight": np.array([8])})
    assert same(proto, {"x": normal(rng, *x_shape)})


@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize("end", ["Identity", "LayerNormalization", "Gelu", "Sigmoid", "QuantizeLinear"])
def test_a_bias_that_widens_a_last_axis_of_one_element(rng, rank, end):
    nodes = [
        node("DequantizeLinear", ["x", "s", "z"], ["xf"]),
        node("DequantizeLinear", ["w", "s", "zero"], ["wf"]),
        node("MatMul", ["xf", "wf"], ["p"]),
        node("QuantizeLinear", ["p", "s", "z"], ["q"]),
        node("DequantizeLinear", ["q", "s", "z"], ["f"]),
        node("Add", ["f", "b"], ["a"]),
        node(end, ["a", *{"LayerNormalization": ["b"], "QuantizeLinear": ["s", "z"]}.get(end, [])], ["y"]),
    ]
    held = {"w": sparse_int8(rng, 1, 8).T.copy(), "s": np.float32(0.05), "z": np.uint8(120), "zero": np.int8(0)}
    out = untyped("y", UINT8 if end == "QuantizeLinear" else FLOAT)
    proto = model(nodes, [untyped("x", UINT8)], [out], held | {"b": normal(rng, 5)}, opset=20)
    assert same(proto, {"x": rng.integers(0, 256, (2, 3, 8)[3 - rank :]).astype(np.uint8)})


@pytest.mark.parametrize("shape", [(8,), (1, 8), (3, 8), (2, 3, 8), (3, 1), (1,), ()])
@pytest.mark.parametrize("end", ["Relu", "LayerNormalization"])
def test_a_residual_of_any_shape(rng, shape, end):
    nodes = [
        node("MatMul", ["x", "w"], ["p"]),
        node("Add", ["p", "r"], ["s"]),
        node(end, ["s", "g"] if end == "LayerNormalization" else ["s"], ["y"]),
    ]
    held = {"w": sparse(rng, 8, 8), "g": normal(rng, 8)}
    proto = model(nodes, [info("x", None, 8), untyped("r")], [untyped("y")], held)
    assert same(proto, {"x": normal(rng, 3, 8), "r": normal(rng, *shape)})
