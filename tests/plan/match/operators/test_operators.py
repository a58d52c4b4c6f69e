"""Operators between sparse layers that are steps of ours: the same results as stock onnxruntime, and no islands."""

import numpy as np
import pytest
from numba.core import config
from sparse_rt_kernels.cpu import isa

from sparse_rt.errors import FeedError
from tests.models.onnx_models import INT8, UINT8, info, model, node, normal, sparse, sparse_session, stock

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="these operators are machine code")

KINDS = {np.uint8: UINT8, np.int8: INT8}


@pytest.fixture
def rng():
    return np.random.default_rng(29)


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


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("after", [[], ["Relu"], ["Clip"]])
@pytest.mark.parametrize("rows", [1, 3, 517])
def test_float_add(rng, rows, after, threads):
    nodes, weights = layers(rng, "a", "b")
    nodes.append(node("Add", ["a", "b"], ["s"]))
    if after:
        weights |= {"low": np.float32(-0.2), "high": np.float32(0.4)}
        nodes.append(node(after[0], ["s", "low", "high"] if after == ["Clip"] else ["s"], ["y"]))
    proto = model(
        nodes, [info("x", "r", 8)], [info(name, "r", 8) for name in ("y" if after else "s", "a", "b")], weights
    )
    # Layers whose results are outputs do not add them themselves.
    check(proto, {"x": normal(rng, rows, 8)}, ["Add"], threads=threads)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("op_type", ["Sigmoid", "Tanh"])
@pytest.mark.parametrize("rows", [1, 3, 5000])
def test_float_activation(rng, op_type, rows, threads):
    nodes, weights = layers(rng, "a")
    proto = model([*nodes, node(op_type, ["a"], ["y"])], [info("x", "r", 8)], [info("y", "r", 8)], weights)
    check(proto, {"x": 3 * normal(rng, rows, 8)}, [op_type], threads=threads)


@pytest.mark.parametrize("shape", [(1, 8), (5, 7, 8)])
def test_softmax_at_the_end(rng, shape):
    """Of a classifier."""
    weight = {"w": np.ascontiguousarray(sparse(rng, 20, 8).T)}
    nodes = [node("MatMul", ["x", "w"], ["h"]), node("Softmax", ["h"], ["y"], axis=-1)]
    proto = model(nodes, [info("x", *shape)], [info("y", *shape[:-1], 20)], weight)
    check(proto, {"x": normal(rng, *shape)}, ["Softmax"])


def test_softmax_along_another_axis_stays_in_onnxruntime(rng):
    weight = {"w": np.ascontiguousarray(sparse(rng, 20, 8).T)}
    nodes = [node("MatMul", ["x", "w"], ["h"]), node("Softmax", ["h"], ["y"], axis=0)]
    proto = model(nodes, [info("x", 6, 8)], [info("y", 6, 20)], weight)
    assert "onnxruntime" in sparse_session(proto).plan.describe()


@pytest.mark.parametrize("op_type", ["Sigmoid", "Tanh"])
@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("quantises", [False, True])
def test_activation_of_bytes(rng, op_type, dtype, quantises):
    """A table of 256 entries between the two layers' bytes, and at the end float32 straight from bytes."""
    low = np.iinfo(dtype).min
    values = {"p_s": np.float32(0.008), "p_z": np.array(low + 128, dtype)}
    nodes = [node(op_type, ["a_d"], ["p"])]
    outputs = [info("p", "b", 8, "h", "w")]
    if quantises:
        nodes += [node("QuantizeLinear", ["p", "p_s", "p_z"], ["y"])]
        outputs = [info("y", "b", 8, "h", "w", kind=KINDS[dtype])]
    proto = quantised_model(rng, dtype, ["a"], nodes, values, outputs)
    check(proto, {"x": normal(rng, 2, 8, 11, 14)}, ["QuantizeLinear", op_type], steps=1, threads=2)


def test_add_broadcasts(rng):
    nodes, weights = layers(rng, "a")
    nodes.append(node("Add", ["a", "u"], ["y"]))
    proto = model(nodes, [info("x", "r", 8), info("u", "p", "q")], [info("y", "r", 8), info("a", "r", 8)], weights)
    for shape in [(1, 8), (5, 1), (1, 1), (5, 8)]:
        check(proto, {"x": normal(rng, 5, 8), "u": normal(rng, *shape)}, ["Add"])


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


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (5, 7), (33, 17)])
def test_quantised_add(rng, dtype, relu, size):
    nodes = [node("Add", ["a_d", "b_d"], ["s"])]
    if relu:
        nodes.append(node("Relu", ["s"], ["r"]))
    nodes.append(node("QuantizeLinear", ["r" if relu else "s", "y_s", "y_z"], ["y"]))
    values = {"y_s": np.float32(0.05), "y_z": np.array(np.iinfo(dtype).min + 90, dtype)}
    outputs = [info("y", "b", 8, "h", "w", kind=KINDS[dtype])]
    proto = quantised_model(rng, dtype, ["a", "b"], nodes, values, outputs)
    check(proto, {"x": normal(rng, 2, 8, *size)}, ["QuantizeLinear", "Add"], steps=1)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize(
    "attributes",
    [
        {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
        {"kernel_shape": [2, 2]},
        {"kernel_shape": [1, 3], "strides": [1, 2], "pads": [0, 1, 0, 0]},
        {"kernel_shape": [3, 2], "strides": [3, 2], "pads": [1, 0, 0, 1], "ceil_mode": 1},
    ],
)
def test_quantised_max_pool(rng, dtype, attributes):
    nodes = [
        node("MaxPool", ["a_d"], ["p"], **attributes),
        node("QuantizeLinear", ["p", "a_s", "a_z"], ["y"]),
    ]
    proto = quantised_model(rng, dtype, ["a"], nodes, {}, [info("y", "b", 8, "p", "q", kind=KINDS[dtype])])
    check(proto, {"x": normal(rng, 2, 8, 11, 9)}, ["QuantizeLinear", "MaxPool"])


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("batch", [1, 3, 11])
@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("axis", [1, -1])
def test_quantised_concat(rng, dtype, batch, threads, axis):
    """Three inputs of different scales, one of them quantised like the result, one of them twice."""
    nodes = [
        node("Concat", ["a_d", "b_d", "a_d", "c_d"], ["p"], axis=axis),
        node("QuantizeLinear", ["p", "c_s", "c_z"], ["y"]),
    ]
    outputs = [info("y", "b", *[None] * 3, kind=KINDS[dtype])]
    proto = quantised_model(rng, dtype, ["a", "b", "c"], nodes, {}, outputs)
    check(proto, {"x": normal(rng, batch, 8, 5, 7)}, ["QuantizeLinear", "Concat"], steps=1, threads=threads)


@pytest.mark.parametrize("rows", [0, 1, 5])
def test_float_concat(rng, rows):
    nodes, weights = layers(rng, "a", "b")
    nodes.append(node("Concat", ["a", "b", "x"], ["y"], axis=1))
    proto = model(nodes, [info("x", "r", 8)], [info("y", "r", 24)], weights)
    check(proto, {"x": normal(rng, rows, 8)}, ["Concat"])


def test_concat_of_shapes_that_do_not_fit(rng):
    nodes, weights = layers(rng, "a")
    nodes.append(node("Concat", ["a", "u"], ["y"], axis=1))
    proto = model(nodes, [info("x", "r", 8), info("u", "p", "q")], [info("y", None, None)], weights)
    session = sparse_session(proto)
    assert "Concat" in session.plan.describe()
    with pytest.raises(FeedError, match="axis 1 only"):
        session.run(None, {"x": normal(rng, 3, 8), "u": normal(rng, 2, 8)})


AVERAGES = [
    {"kernel_shape": [2, 2], "strides": [2, 2]},
    {"kernel_shape": [3, 3], "strides": [2, 1], "pads": [1, 0, 1, 1]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "count_include_pad": 1},
    {"kernel_shape": [3, 2], "strides": [3, 2], "pads": [1, 0, 0, 1], "ceil_mode": 1},
]


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("attributes", AVERAGES)
def test_quantised_average_pool(rng, dtype, attributes):
    nodes = [
        node("AveragePool", ["a_d"], ["p"], **attributes),
        node("QuantizeLinear", ["p", "y_s", "y_z"], ["y"]),
    ]
    values = {"y_s": np.float32(0.03), "y_z": np.array(np.iinfo(dtype).min + 90, dtype)}
    outputs = [info("y", "b", 8, "p", "q", kind=KINDS[dtype])]
    proto = quantised_model(rng, dtype, ["a"], nodes, values, outputs)
    check(proto, {"x": normal(rng, 2, 8, 11, 9)}, ["QuantizeLinear", "AveragePool"], steps=1)


def test_windows_of_floats_are_left_to_onnxruntime_which_is_faster_at_them(rng):
    nodes = [
        node("Conv", ["x", "w"], ["a"]),
        node("AveragePool", ["a"], ["p"], **AVERAGES[1]),
        node("Conv", ["p", "w"], ["y"]),
    ]
    proto = model(nodes, [info("x", "b", 8, "h", "w")], [info("y", "b", 8, "p", "q")], {"w": sparse(rng, 8, 8, 1, 1)})
    described = [step.describe().split()[0] for step in sparse_session(proto).plan.steps]
    assert described[1] == "onnxruntime"
    assert "AveragePool" not in described


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize(
    ("op_type", "attributes"),
    [
        ("Elu", {"alpha": 0.7}),
        ("HardSigmoid", {}),
        ("HardSigmoid", {"alpha": 0.4, "beta": 0.2}),
        ("HardSwish", {}),
        ("LeakyRelu", {}),
        ("LeakyRelu", {"alpha": 0.3}),
        ("Softplus", {}),
    ],
)
def test_activations_of_bytes(rng, dtype, op_type, attributes):
    nodes = [
        node(op_type, ["a_d"], ["p"], **attributes),
        node("QuantizeLinear", ["p", "y_s", "y_z"], ["y"]),
    ]
    values = {"y_s": np.float32(0.02), "y_z": np.array(np.iinfo(dtype).min + 90, dtype)}
    outputs = [info("y", "b", 8, "h", "w", kind=KINDS[dtype])]
    proto = quantised_model(rng, dtype, ["a"], nodes, values, outputs)
    check(proto, {"x": 3 * normal(rng, 2, 8, 5, 7)}, ["QuantizeLinear", op_type], steps=1)


def test_float_max_pool(rng):
    nodes = [
        node("Conv", ["x", "w"], ["a"]),
        node("MaxPool", ["a"], ["p"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        node("Conv", ["p", "w"], ["y"]),
    ]
    proto = model(nodes, [info("x", "b", 8, "h", "w")], [info("y", "b", 8, "p", "q")], {"w": sparse(rng, 8, 8, 1, 1)})
    check(proto, {"x": normal(rng, 1, 8, 13, 21)}, ["MaxPool"], threads=2)


def test_pooling_that_the_kernel_does_not_know_stays_in_onnxruntime(rng):
    for attributes in ({"dilations": [2, 2]}, {"auto_pad": "SAME_UPPER"}):
        nodes = [
            node("Conv", ["x", "w"], ["a"]),
            node("MaxPool", ["a"], ["y"], kernel_shape=[2, 2], strides=[2, 2], **attributes),
        ]
        proto = model(nodes, [info("x", 1, 8, 9, 9)], [info("y", 1, 8, "p", "q")], {"w": sparse(rng, 8, 8, 1, 1)})
        session, feeds = sparse_session(proto), {"x": normal(rng, 1, 8, 9, 9)}
        assert "onnxruntime" in session.plan.describe()
        np.testing.assert_allclose(session.run(None, feeds)[0], stock(proto, feeds)[0], rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_quantised_head(rng, dtype):
    """GlobalAveragePool, Flatten and the last layer, all on bytes."""
    values = {
        "p_s": np.float32(0.02),
        "p_z": np.array(np.iinfo(dtype).min + 110, dtype),
        "f": (sparse(rng, 10, 8) * 200).clip(-127, 127).astype(np.int8).T.copy(),
        "f_s": np.float32(0.02),
    }
    nodes = [
        node("GlobalAveragePool", ["a_d"], ["p"]),
        node("QuantizeLinear", ["p", "p_s", "p_z"], ["p_q"]),
        node("DequantizeLinear", ["p_q", "p_s", "p_z"], ["p_d"]),
        node("Flatten", ["p_d"], ["v"]),
        node("QuantizeLinear", ["v", "p_s", "p_z"], ["v_q"]),
        node("DequantizeLinear", ["v_q", "p_s", "p_z"], ["v_d"]),
        node("DequantizeLinear", ["f", "f_s"], ["f_d"]),
        node("MatMul", ["v_d", "f_d"], ["y"]),
    ]
    proto = quantised_model(rng, dtype, ["a"], nodes, values, [info("y", "b", 10)])
    # One byte of a mean may differ by one step.
    check(
        proto,
        {"x": normal(rng, 3, 8, 7, 7)},
        ["QuantizeLinear", "GlobalAveragePool", "Flatten"],
        tolerance=0.05,
    )


def gelu_nodes(form):
    if form == "root":
        return [
            node("Div", ["a", "root"], ["d"]),
            node("Erf", ["d"], ["e"]),
            node("Add", ["e", "one"], ["p"]),
            node("Mul", ["a", "p"], ["g"]),
            node("Mul", ["g", "half"], ["y"]),
        ]
    if form == "inverse":
        return [
            node("Mul", ["inverse", "a"], ["d"]),
            node("Mul", ["a", "half"], ["h"]),
            node("Erf", ["d"], ["e"]),
            node("Add", ["one", "e"], ["p"]),
            node("Mul", ["h", "p"], ["y"]),
        ]
    return [node("Gelu", ["a"], ["y"], domain="com.microsoft")]


@pytest.mark.parametrize("form", ["root", "inverse", "operator"])
@pytest.mark.parametrize("rows", [1, 37])
def test_gelu(rng, form, rows):
    nodes, weights = layers(rng, "a")
    weights |= {name: np.float32(v) for name, v in {"root": 2**0.5, "inverse": 0.5**0.5, "one": 1, "half": 0.5}.items()}
    proto = model([*nodes, *gelu_nodes(form)], [info("x", "r", 8)], [info("y", "r", 8)], weights)
    check(proto, {"x": 3 * normal(rng, rows, 8)}, ["Gelu"])


@pytest.mark.parametrize(
    ("nodes", "shape"),
    [
        ([node("Reshape", ["a", "s"], ["y"])], [0, 2, 4]),
        ([node("Reshape", ["a", "s"], ["y"])], [-1, 2]),
        ([node("Flatten", ["a"], ["y"], axis=0)], [1]),
        ([node("Flatten", ["a"], ["y"], axis=-1)], [1]),
    ],
)
def test_reshapes(rng, nodes, shape):
    first, weights = layers(rng, "a")
    weights["s"] = np.array(shape, np.int64)
    out = info("y", *[None] * (len(shape) if nodes[0].op_type == "Reshape" else 2))
    proto = model([*first, *nodes], [info("x", "r", 8)], [out], weights)
    check(proto, {"x": normal(rng, 6, 8)}, [nodes[0].op_type])


def test_outputs_do_not_share_memory_with_what_the_session_keeps(rng):
    nodes, weights = layers(rng, "a")
    nodes.append(node("Flatten", ["a"], ["y"]))
    proto = model(nodes, [info("x", 2, 8)], [info("a", 2, 8), info("y", 2, 8)], weights)
    session, feeds = sparse_session(proto), {"x": normal(rng, 2, 8)}
    first = [value.copy() for value in session.run(None, feeds)]
    for value in session.run(None, feeds):
        value[...] = 0
    for y, reference in zip(session.run(None, feeds), first, strict=True):
        np.testing.assert_array_equal(y, reference)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("shape", [(1, 8), (3, 5, 8)])
def test_layer_norm(rng, residual, shape):
    nodes, weights = layers(rng, "a")
    weights |= {"g": normal(rng, 8), "b": normal(rng, 8)}
    if residual:
        nodes.append(node("Add", ["x", "a"], ["s"]))
    nodes.append(node("LayerNormalization", ["s" if residual else "a", "g", "b"], ["y"], epsilon=1e-4))
    axes = [None] * len(shape)
    proto = model(nodes, [info("x", *axes)], [info("y", *axes)], weights)
    check(proto, {"x": normal(rng, *shape)}, ["LayerNormalization"], tolerance=1e-4)


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


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("read_elsewhere", [False, True])
def test_quantised_block_of_a_transformer(rng, dtype, swapped, read_elsewhere):
    """A quantised product, its bias, the residual, the normalisation, and the next product: bytes in between."""
    between = [
        node("Add", ["bias", "a_f"] if swapped else ["a_f", "bias"], ["c"]),
        node("Add", ["x_f", "c"] if swapped else ["c", "x_f"], ["r"]),
        node("LayerNormalization", ["r", "gamma", "beta"], ["n"]),
    ]
    proto = quantised_block(rng, dtype, between, ["y", "c"] if read_elsewhere else ["y"])
    check_block(rng, proto, [*["DequantizeLinear"] * read_elsewhere, "LayerNormalization"])


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("residual", ["float32", "none"])
def test_normalisation_of_bytes_beside_float32(rng, dtype, residual):
    between = [node("Add", ["a_f", "x"], ["r"])] if residual == "float32" else []
    between.append(node("LayerNormalization", ["r" if between else "a_f", "gamma", "beta"], ["n"]))
    check_block(rng, quantised_block(rng, dtype, between, ["y"]), ["LayerNormalization"])


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("form", ["root", "operator", "with bias"])
@pytest.mark.parametrize("read_elsewhere", [False, True])
def test_gelu_of_a_quantised_product(rng, dtype, biased, form, read_elsewhere):
    before = "a" if biased else "a_f"
    bias = [node("Add", ["a_f", "bias"], ["a"])] if biased else []
    with_bias = [node("BiasGelu", ["a", "beta"], ["y"], domain="com.microsoft")]
    gelu = with_bias if form == "with bias" else gelu_nodes(form)
    for one in gelu:
        one.input[:] = [before if name == "a" else name for name in one.input]
        one.output[:] = ["n" if name == "y" else name for name in one.output]
    proto = quantised_block(rng, dtype, [*bias, *gelu], ["y", before] if read_elsewhere else ["y"])
    # Two biases are one too many for the step.
    dequantises = read_elsewhere or (biased and form == "with bias")
    check_block(rng, proto, [*["DequantizeLinear"] * dequantises, "Gelu"])


@pytest.mark.parametrize("form", ["float", "u8", "s8"])
@pytest.mark.parametrize("stride", [1, 2])
def test_depthwise_convolution(rng, form, stride):
    attributes = {"group": 8, "strides": [stride, stride], "pads": [1, 1, 1, 1]}
    if form == "float":
        weights = {"w": sparse(rng, 8, 8, 1, 1), "d": normal(rng, 8, 1, 3, 3), "c": normal(rng, 8)}
        nodes = [
            node("Conv", ["x", "w"], ["a"]),
            node("Conv", ["a", "d", "c"], ["e"], **attributes),
            node("Relu", ["e"], ["f"]),
            node("Conv", ["f", "w"], ["y"]),
        ]
        proto = model(nodes, [info("x", "b", 8, "h", "w")], [info("y", "b", 8, "p", "q")], weights)
        check(proto, {"x": normal(rng, 2, 8, 13, 9)}, ["Conv"], threads=2)
        return
    dtype = np.uint8 if form == "u8" else np.int8
    values = {
        "d": rng.integers(-127, 128, (8, 1, 3, 3)).astype(np.int8),
        "d_s": rng.uniform(0.002, 0.01, 8).astype(np.float32),
        "d_z": np.zeros(8, np.int8),
        "y_s": np.float32(0.05),
        "y_z": np.array(np.iinfo(dtype).min + 90, dtype),
    }
    nodes = [
        node("DequantizeLinear", ["d", "d_s", "d_z"], ["d_f"], axis=0),
        node("Conv", ["a_d", "d_f"], ["e"], **attributes),
        node("QuantizeLinear", ["e", "y_s", "y_z"], ["y"]),
    ]
    outputs = [info("y", "b", 8, "p", "q", kind=KINDS[dtype])]
    proto = quantised_model(rng, dtype, ["a"], nodes, values, outputs)
    check(proto, {"x": normal(rng, 2, 8, 11, 14)}, ["QuantizeLinear", "Conv"], threads=2)


@pytest.mark.skipif("avx2" not in isa.supported_tiers(), reason="dense kernels need AVX2")
@pytest.mark.parametrize("form", ["float", "u8", "s8"])
def test_dense_stem(rng, form):
    """A convolution of 3 channels, which 2:4 does not take, before a sparse layer."""
    attributes = {"strides": [2, 2], "pads": [3, 3, 3, 3]}
    stem = rng.standard_normal((16, 3, 7, 7)).astype(np.float32)
    if form == "float":
        nodes = [
            node("Conv", ["x", "d", "c"], ["a"], **attributes),
            node("Relu", ["a"], ["r"]),
            node("Conv", ["r", "w"], ["y"]),
        ]
        weights = {"d": stem, "c": normal(rng, 16), "w": sparse(rng, 8, 16, 1, 1)}
        proto = model(nodes, [info("x", "b", 3, "h", "w")], [info("y", "b", 8, "p", "q")], weights)
        for size in [(33, 35), (9, 11)]:
            check(proto, {"x": normal(rng, 2, 3, *size)}, ["Conv"], threads=2)
        return
    dtype = np.uint8 if form == "u8" else np.int8
    low = np.iinfo(dtype).min
    weights = {
        "x_s": np.float32(0.03),
        "x_z": np.array(low + 117, dtype),
        "d": (stem * 40).clip(-127, 127).astype(np.int8),
        "d_s": np.float32(0.002),
        "a_s": np.float32(0.05),
        "a_z": np.array(low + 120, dtype),
        "w": (sparse(rng, 16, 16, 1, 1) * 200).clip(-127, 127).astype(np.int8),
        "w_s": np.float32(0.01),
        "y_s": np.float32(0.05),
        "y_z": np.array(low + 128, dtype),
    }
    nodes = [
        node("QuantizeLinear", ["x", "x_s", "x_z"], ["x_q"]),
        node("DequantizeLinear", ["x_q", "x_s", "x_z"], ["x_f"]),
        node("DequantizeLinear", ["d", "d_s"], ["d_f"]),
        node("Conv", ["x_f", "d_f"], ["a"], **attributes),
        node("QuantizeLinear", ["a", "a_s", "a_z"], ["a_q"]),
        node("DequantizeLinear", ["a_q", "a_s", "a_z"], ["a_f"]),
        node("DequantizeLinear", ["w", "w_s"], ["w_f"]),
        node("Conv", ["a_f", "w_f"], ["e"]),
        node("QuantizeLinear", ["e", "y_s", "y_z"], ["y"]),
    ]
    proto = model(nodes, [info("x", "b", 3, "h", "w")], [info("y", "b", 16, "p", "q", kind=KINDS[dtype])], weights)
    # onnxruntime computes the int8 one in floats, which round ties of the product of scales another way.
    steps = 0 if form == "u8" else 1
    check(proto, {"x": normal(rng, 2, 3, 41, 37)}, ["QuantizeLinear", "Conv"], threads=2, steps=steps)


@pytest.mark.parametrize("scale", [2.0**-100, 2.0**100])
def test_scales_beyond_the_kernels_stay_in_onnxruntime(rng, scale):
    nodes, weights = layers(rng, "a")
    weights |= {"s": np.float32(scale), "z": np.array(7, np.uint8)}
    nodes.append(node("QuantizeLinear", ["a", "s", "z"], ["y"]))
    proto = model(nodes, [info("x", "r", 8)], [info("y", "r", 8, kind=UINT8)], weights)
    session, feeds = sparse_session(proto), {"x": normal(rng, 3, 8)}
    assert "onnxruntime" in session.plan.describe()
    np.testing.assert_array_equal(session.run(None, feeds)[0], stock(proto, feeds)[0])
