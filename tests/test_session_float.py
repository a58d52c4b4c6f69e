"""Float models: sparse_rt's session against stock onnxruntime."""

import numpy as np
import pytest
from numba.core import config
from onnx import helper

from tests.models.onnx_models import FLOAT, INT64, compare, info, model, node, normal, sparse, sparse_session, stock


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def test_mlp_fuses_bias_and_activation(rng):
    proto = model(
        [
            node("MatMul", ["x", "w1"], ["a"]),
            node("Add", ["a", "b1"], ["c"]),
            node("Relu", ["c"], ["d"]),
            node("Gemm", ["d", "w2", "b2"], ["e"], transB=1),
            node("Clip", ["e", "zero", "six"], ["f"]),
            node("Gemm", ["f", "w3"], ["y"]),
        ],
        [info("x", "batch", 20)],
        [info("y", "batch", 5)],
        {
            "w1": sparse(rng, 33, 20).T.copy(),
            "b1": normal(rng, 33),
            "w2": sparse(rng, 17, 33),
            "b2": normal(rng, 17),
            "w3": sparse(rng, 5, 17).T.copy(),
            "zero": np.float32(0),
            "six": np.float32(6),
        },
    )
    for batch in (1, 3, 0, 40):
        compare(proto, {"x": normal(rng, batch, 20)}, layers=3, islands=0)


@pytest.mark.parametrize("shape", [(9, 16), (2, 9, 16), (2, 3, 4, 16), (16,), (0, 16), (2, 0, 16)])
def test_matmul_right(rng, shape):
    rank = [f"d{axis}" for axis in range(len(shape) - 1)]
    proto = model(
        [node("MatMul", ["x", "w"], ["y"])],
        [info("x", *rank, 16)],
        [info("y", *rank, 11)],
        {"w": sparse(rng, 11, 16).T.copy()},
    )
    compare(proto, {"x": normal(rng, *shape)}, layers=1, islands=0)


@pytest.mark.parametrize("shape", [(16, 9), (2, 16, 9), (2, 3, 16, 5), (16,), (16, 0)])
@pytest.mark.parametrize("bias", [False, True])
def test_matmul_left(rng, shape, bias):
    out = [*shape[:-2], 11, *shape[-1:]] if len(shape) > 1 else [11]
    nodes = [node("MatMul", ["w", "x"], ["a" if bias else "y"])]
    if bias:
        nodes.append(node("Add", ["b", "a"], ["y"]))
    proto = model(
        nodes,
        [info("x", *shape)],
        [info("y", *out)],
        {"w": sparse(rng, 11, 16), "b": normal(rng, 11, 1) if len(shape) > 1 else normal(rng, 11)},
    )
    compare(proto, {"x": normal(rng, *shape)}, layers=1, islands=0)


def test_matmul_left_of_an_empty_batch(rng):
    proto = model(
        [node("MatMul", ["w", "x"], ["y"])],
        [info("x", "b", 16, 4)],
        [info("y", "b", 11, 4)],
        {"w": sparse(rng, 11, 16)},
    )
    # Stock onnxruntime refuses this one.
    assert sparse_session(proto).run(None, {"x": normal(rng, 0, 16, 4)})[0].shape == (0, 11, 4)


@pytest.mark.parametrize("bias", [None, (), (1,), (13,), (1, 13), (4, 1), (4, 13)])
@pytest.mark.parametrize(("alpha", "beta", "trans_b"), [(1.0, 1.0, 0), (0.5, 2.0, 1)])
def test_gemm(rng, bias, alpha, beta, trans_b):
    weight = sparse(rng, 13, 12)
    inputs = ["x", "w"] if bias is None else ["x", "w", "b"]
    initializers = {"w": weight if trans_b else weight.T.copy()}
    if bias is not None:
        initializers["b"] = normal(rng, *bias)
    proto = model(
        [node("Gemm", inputs, ["y"], alpha=alpha, beta=beta, transB=trans_b)],
        [info("x", 4, 12)],
        [info("y", 4, 13)],
        initializers,
    )
    per_channel = bias is None or bias[:1] != (4,)
    session = compare(proto, {"x": normal(rng, 4, 12)}, layers=int(per_channel))
    if not per_channel:
        assert "one value for each output channel" in session.explain()[0].reason


def test_gemm_with_trans_a_stays_dense(rng):
    proto = model(
        [node("Gemm", ["x", "w"], ["y"], transA=1)],
        [info("x", 12, 4)],
        [info("y", 4, 13)],
        {"w": sparse(rng, 13, 12).T.copy()},
    )
    assert "transA" in compare(proto, {"x": normal(rng, 12, 4)}, layers=0).explain()[0].reason


CONVOLUTIONS = [
    {"kernel_shape": [1, 1]},
    {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]},
    {"kernel_shape": [3, 2], "pads": [0, 1, 2, 0], "strides": [2, 1]},
    {"kernel_shape": [3, 3], "dilations": [2, 1], "strides": [1, 3]},
    {"kernel_shape": [3, 3], "auto_pad": "SAME_UPPER", "strides": [2, 2]},
    {"kernel_shape": [2, 4], "auto_pad": "SAME_LOWER", "strides": [2, 3]},
    {"kernel_shape": [2, 4], "auto_pad": "VALID"},
    {"kernel_shape": [1, 1], "strides": [2, 2]},
]


@pytest.mark.parametrize("attributes", CONVOLUTIONS)
@pytest.mark.parametrize("channels", [8, 7])
def test_conv_2d(rng, attributes, channels):
    proto = model(
        [node("Conv", ["x", "w", "b"], ["a"], **attributes), node("Relu", ["a"], ["y"])],
        [info("x", "b", channels, "h", "w")],
        [info("y", "b", 10, "p", "q")],
        {"w": sparse(rng, 10, channels, *attributes["kernel_shape"]), "b": normal(rng, 10)},
    )
    for size in [(2, 9, 8), (1, 12, 13), (0, 9, 8)]:
        compare(proto, {"x": normal(rng, size[0], channels, *size[1:])}, layers=1, islands=0)


@pytest.mark.parametrize(
    "attributes",
    [
        {"kernel_shape": [3], "pads": [1, 1]},
        {"kernel_shape": [4], "strides": [2], "dilations": [2]},
        {"kernel_shape": [5], "auto_pad": "SAME_LOWER", "strides": [2]},
        {"kernel_shape": [1]},
    ],
)
def test_conv_1d(rng, attributes):
    proto = model(
        [node("Conv", ["x", "w"], ["y"], **attributes)],
        [info("x", "b", 12, "t")],
        [info("y", "b", 6, "u")],
        {"w": sparse(rng, 6, 12, *attributes["kernel_shape"])},
    )
    compare(proto, {"x": normal(rng, 2, 12, 17)}, layers=1, islands=0)


def test_conv_per_channel_add_is_a_bias(rng):
    proto = model(
        [node("Conv", ["x", "w"], ["a"], kernel_shape=[1, 1]), node("Add", ["a", "b"], ["y"])],
        [info("x", 1, 8, 3, 3)],
        [info("y", 1, 6, 3, 3)],
        {"w": sparse(rng, 6, 8, 1, 1), "b": normal(rng, 6, 1, 1)},
    )
    compare(proto, {"x": normal(rng, 1, 8, 3, 3)}, layers=1, islands=0)


@pytest.mark.parametrize("shape", [(3,), (3, 3), (1, 6, 3, 3), (1, 1, 1, 1, 1), (6, 1, 3)])
def test_an_add_that_is_no_bias_is_not_absorbed(rng, shape):
    out = ["p"] * max(4, len(shape))
    proto = model(
        [node("Conv", ["x", "w"], ["a"], kernel_shape=[1, 1]), node("Add", ["a", "b"], ["y"])],
        [info("x", 1, 8, 3, 3)],
        [info("y", *out)],
        {"w": sparse(rng, 6, 8, 1, 1), "b": normal(rng, *shape)},
    )
    compare(proto, {"x": normal(rng, 1, 8, 3, 3)}, layers=1, islands=1)


TRANSPOSED = [
    {"kernel_shape": [3, 3]},
    {"kernel_shape": [2, 2], "strides": [2, 2]},
    {"kernel_shape": [3, 4], "strides": [2, 3], "pads": [1, 0, 0, 2], "output_padding": [1, 2]},
    {"kernel_shape": [3, 3], "dilations": [2, 2], "strides": [3, 2], "pads": [2, 1, 1, 2]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
    {"kernel_shape": [4, 3], "strides": [2, 3], "auto_pad": "SAME_LOWER"},
    {"kernel_shape": [3, 3], "strides": [2, 2], "output_shape": [9, 12]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "output_shape": [10, 12], "auto_pad": "SAME_UPPER"},
    {"kernel_shape": [1, 1], "pads": [1, 1, 1, 1]},
    {"kernel_shape": [3, 3], "auto_pad": "VALID"},
]


@pytest.mark.parametrize("attributes", TRANSPOSED)
@pytest.mark.parametrize("channels", [8, 6])
def test_conv_transpose_2d(rng, attributes, channels):
    weight = sparse(rng, 5, channels, *attributes["kernel_shape"]).swapaxes(0, 1).copy()
    proto = model(
        [node("ConvTranspose", ["x", "w", "b"], ["y"], **attributes)],
        [info("x", "b", channels, "h", "w")],
        [info("y", "b", 5, "p", "q")],
        {"w": weight, "b": normal(rng, 5)},
    )
    compare(proto, {"x": normal(rng, 2, channels, 4, 5)}, layers=1, islands=0)


def test_conv_transpose_1d(rng):
    weight = sparse(rng, 5, 8, 4).swapaxes(0, 1).copy()
    proto = model(
        [node("ConvTranspose", ["x", "w"], ["y"], kernel_shape=[4], strides=[2], pads=[1, 1])],
        [info("x", "b", 8, "t")],
        [info("y", "b", 5, "u")],
        {"w": weight},
    )
    compare(proto, {"x": normal(rng, 2, 8, 6)}, layers=1, islands=0)


def test_group_convolution_and_dense_weights_stay_dense_with_a_reason(rng):
    proto = model(
        [
            node("Conv", ["x", "w1"], ["a"], kernel_shape=[1, 1], group=2),
            node("Conv", ["a", "w2"], ["y"], kernel_shape=[1, 1]),
        ],
        [info("x", 1, 16, 3, 3)],
        [info("y", 1, 6, 3, 3)],
        {"w1": sparse(rng, 8, 8, 1, 1), "w2": normal(rng, 6, 8, 1, 1)},
    )
    session = compare(proto, {"x": normal(rng, 1, 16, 3, 3)}, layers=0, islands=1)
    grouped, dense = session.explain()
    assert "group" in grouped.reason
    assert dense.density == 1.0
    assert dense.kernel is None
    assert not dense.is_sparse


def residual_block(x, y, number, channels, rng):
    weights = {f"w{number}{i}": sparse(rng, channels, channels, 3, 3) for i in "ab"}
    nodes = [
        node("Conv", [x, f"w{number}a"], [f"a{number}"], pads=[1, 1, 1, 1]),
        node("Relu", [f"a{number}"], [f"r{number}"]),
        node("Conv", [f"r{number}", f"w{number}b"], [f"c{number}"], pads=[1, 1, 1, 1]),
        node("Add", [f"c{number}", x], [f"s{number}"]),
        node("Relu", [f"s{number}"], [y]),
    ]
    return nodes, weights


def test_residual_cnn_adds_without_an_island(rng):
    first, weights1 = residual_block("x", "m", 1, 8, rng)
    second, weights2 = residual_block("m", "n", 2, 8, rng)
    head = [
        node("GlobalAveragePool", ["n"], ["p"]),
        node("Flatten", ["p"], ["f"]),
        node("Gemm", ["f", "w"], ["y"]),
    ]
    proto = model(
        [*first, *second, *head],
        [info("x", "b", 8, 6, 6)],
        [info("y", "b", 10)],
        {**weights1, **weights2, "w": sparse(rng, 10, 8).T.copy()},
    )
    # Operators without weights are machine code: without a JIT every join is an island, the last with the head.
    compare(proto, {"x": normal(rng, 2, 8, 6, 6)}, layers=5, islands=2 if config.DISABLE_JIT else 0)


def attention(rng, width=16, heads=2):
    size = width // heads
    nodes = [node("LayerNormalization", ["x", "scale", "shift"], ["n"])]
    weights = {"scale": normal(rng, width), "shift": normal(rng, width), "split": np.array([0, 0, heads, size])}
    for name in "qkv":
        weights[f"w{name}"], weights[f"b{name}"] = sparse(rng, width, width).T.copy(), normal(rng, width)
        perm = [0, 2, 3, 1] if name == "k" else [0, 2, 1, 3]
        nodes += [
            node("MatMul", ["n", f"w{name}"], [f"{name}0"]),
            node("Add", [f"b{name}", f"{name}0"], [f"{name}1"]),
            node("Reshape", [f"{name}1", "split"], [f"{name}2"]),
            node("Transpose", [f"{name}2"], [name], perm=perm),
        ]
    nodes += [
        node("MatMul", ["q", "k"], ["scores"]),
        node("Mul", ["scores", "factor"], ["scaled"]),
        node("Softmax", ["scaled"], ["weights"]),
        node("MatMul", ["weights", "v"], ["mixed"]),
        node("Transpose", ["mixed"], ["turned"], perm=[0, 2, 1, 3]),
        node("Reshape", ["turned", "join"], ["joined"]),
        node("MatMul", ["joined", "wo"], ["projected"]),
        node("Add", ["projected", "x"], ["y"]),
    ]
    weights |= {
        "factor": np.float32(size**-0.5),
        "join": np.array([0, 0, width]),
        "wo": sparse(rng, width, width).T.copy(),
    }
    return nodes, weights


@pytest.mark.parametrize("length", [1, 5, 12])
def test_attention(rng, length):
    nodes, weights = attention(rng)
    proto = model(nodes, [info("x", "b", "s", 16)], [info("y", "b", "s", 16)], weights)
    compare(proto, {"x": normal(rng, 2, length, 16)}, layers=4, islands=3)


def test_several_inputs_and_outputs_fan_out_and_dead_nodes(rng):
    proto = model(
        [
            node("MatMul", ["x", "w1"], ["a"]),
            node("Relu", ["a"], ["r"]),
            node("Neg", ["a"], ["n"]),
            node("MatMul", ["u", "w2"], ["c"]),
            node("Add", ["r", "c"], ["y"]),
            node("Exp", ["y"], ["nobody"]),
        ],
        [info("x", "b", 12), info("u", "b", 8), info("unused", 3)],
        [info("y", "b", 6), info("a", "b", 6), info("n", "b", 6), info("c", "b", 6)],
        {"w1": sparse(rng, 6, 12).T.copy(), "w2": sparse(rng, 6, 8).T.copy()},
    )
    feeds = {"x": normal(rng, 3, 12), "u": normal(rng, 3, 8), "unused": normal(rng, 3)}
    compare(proto, feeds, layers=2, islands=1)
    compare(proto, feeds, names=["n", "y"])


def test_initializers_and_inputs_as_outputs_are_copies(rng):
    constant = normal(rng, 4)
    proto = model(
        [node("MatMul", ["x", "w"], ["y"])],
        [info("x", 2, 8)],
        [info("y", 2, 6), info("x", 2, 8), info("c", 4), info("y", 2, 6)],
        {"w": sparse(rng, 6, 8).T.copy(), "c": constant},
    )
    x = normal(rng, 2, 8)
    session = compare(proto, {"x": x}, layers=1)
    first = session.run(None, {"x": x})
    before = x.copy()
    for array in first:
        array[:] = np.nan
    np.testing.assert_array_equal(x, before)
    second = session.run(None, {"x": x})
    np.testing.assert_array_equal(second[2], constant)
    assert not any(np.shares_memory(second[i], second[j]) for i in range(4) for j in range(i))


def test_overridable_initializer(rng):
    proto = model(
        [node("MatMul", ["x", "w"], ["a"]), node("Add", ["a", "c"], ["y"])],
        [info("x", 2, 8), info("c", 6)],
        [info("y", 2, 6)],
        {"w": sparse(rng, 6, 8).T.copy(), "c": normal(rng, 6)},
    )
    x = normal(rng, 2, 8)
    session = compare(proto, {"x": x}, layers=1, islands=1)
    assert [item.name for item in session.get_inputs()] == ["x"]
    assert [item.name for item in session.get_overridable_initializers()] == ["c"]
    compare(proto, {"x": x, "c": normal(rng, 6)}, layers=1)


def test_overridable_weight_is_no_constant(rng):
    proto = model(
        [node("MatMul", ["x", "w"], ["y"])],
        [info("x", 2, 8), info("w", 8, 6)],
        [info("y", 2, 6)],
        {"w": sparse(rng, 6, 8).T.copy()},
    )
    compare(proto, {"x": normal(rng, 2, 8)}, layers=0)
    compare(proto, {"x": normal(rng, 2, 8), "w": normal(rng, 8, 6)}, layers=0)


def test_old_ir_lists_initializers_as_inputs(rng):
    proto = model(
        [node("MatMul", ["x", "w"], ["y"])],
        [info("x", 2, 8), info("w", 8, 6)],
        [info("y", 2, 6)],
        {"w": sparse(rng, 6, 8).T.copy()},
        opset=8,
        ir_version=3,
    )
    session = compare(proto, {"x": normal(rng, 2, 8)}, layers=1, islands=0)
    assert session.get_overridable_initializers() == []


def test_if_and_loop_run_in_islands_with_captured_values(rng):
    then = helper.make_graph([node("Relu", ["a"], ["t"])], "then", [], [info("t", "b", 6)])
    other = helper.make_graph([node("MatMul", ["a", "square"], ["e"])], "else", [], [info("e", "b", 6)])
    body = helper.make_graph(
        [node("Identity", ["go"], ["still"]), node("Add", ["state", "c"], ["next"])],
        "body",
        [info("i", kind=INT64), helper.make_tensor_value_info("go", 9, []), info("state", "b", 6)],
        [helper.make_tensor_value_info("still", 9, []), info("next", "b", 6)],
    )
    proto = model(
        [
            node("MatMul", ["x", "w"], ["a"]),
            node("If", ["flag"], ["c"], then_branch=then, else_branch=other),
            node("Loop", ["count", "", "a"], ["d"], body=body),
            node("MatMul", ["d", "v"], ["y"]),
        ],
        [info("x", "b", 8), helper.make_tensor_value_info("flag", 9, []), info("count", kind=INT64)],
        [info("y", "b", 5), info("d", "b", 6)],
        {"w": sparse(rng, 6, 8).T.copy(), "v": sparse(rng, 5, 6).T.copy(), "square": normal(rng, 6, 6)},
    )
    for flag in (True, False):
        feeds = {"x": normal(rng, 2, 8), "flag": np.array(flag), "count": np.array(3)}
        compare(proto, feeds, layers=2, islands=1)


def test_sequences_and_strings_cross_islands(rng):
    proto = model(
        [
            node("SequenceConstruct", ["x", "x"], ["q"]),
            node("MatMul", ["x", "w"], ["a"]),
            node("SequenceInsert", ["q", "a"], ["y"]),
            node("Identity", ["s"], ["t"]),
        ],
        [info("x", "b", 8), info("s", 2, kind=8)],
        [helper.make_tensor_sequence_value_info("y", FLOAT, None), info("t", 2, kind=8)],
        {"w": sparse(rng, 6, 8).T.copy()},
    )
    compare(proto, {"x": normal(rng, 2, 8), "s": np.array(["a", "bc"], object)}, layers=1)


def test_local_functions_are_inlined(rng):
    opsets = [helper.make_opsetid("", 17)]
    function = helper.make_function("my", "Linear", ["x", "w", "b"], ["y"], [
        node("MatMul", ["x", "w"], ["t"]), node("Add", ["t", "b"], ["y"])
    ], opsets)  # fmt: skip
    proto = model(
        [node("Linear", ["x", "w", "b"], ["m"], domain="my"), node("Linear", ["m", "v", "c"], ["y"], domain="my")],
        [info("x", "b", 8)],
        [info("y", "b", 5)],
        {"w": sparse(rng, 6, 8).T.copy(), "b": normal(rng, 6), "v": sparse(rng, 5, 6).T.copy(), "c": normal(rng, 5)},
        functions=[function],
        domains=["my"],
    )
    compare(proto, {"x": normal(rng, 2, 8)}, layers=2, islands=0)


def test_float16_models_run_in_onnxruntime(rng):
    half = sparse(rng, 6, 8).T.astype(np.float16)
    proto = model(
        [node("MatMul", ["x", "w"], ["y"])], [info("x", 2, 8, kind=10)], [info("y", 2, 6, kind=10)], {"w": half}
    )
    session = compare(proto, {"x": normal(rng, 2, 8).astype(np.float16)}, layers=0)
    assert "float16" in session.explain()[0].reason


@pytest.mark.parametrize("crossing", [False, True])
def test_bfloat16_stays_within_one_island(rng, crossing):
    nodes = [
        node("Cast", ["x"], ["h"], to=16),
        node("Cast", ["h"], ["f"], to=1),
        node("MatMul", ["f", "w"], ["a"]),
        node("Cast", ["h" if crossing else "x"], ["g"], to=1),
        node("Sum", ["a", "g"], ["b"]),
        node("Add", ["b", "x"], ["y"]),
    ]
    weight = sparse(rng, 8, 8).T.copy()
    proto = model(nodes, [info("x", "b", 8)], [info("y", "b", 8)], {"w": weight})
    session = sparse_session(proto)
    assert session.plan.is_sparse != crossing
    x = normal(rng, 3, 8)
    np.testing.assert_allclose(session.run(None, {"x": x})[0], stock(proto, {"x": x})[0], rtol=1e-2, atol=1e-2)
    if crossing:
        assert "bfloat16" in session.explain()[0].reason


def test_a_stored_zero_is_skipped_but_nan_and_inf_pass(rng):
    weight = sparse(rng, 6, 8)
    weight[0] = [0, 0, 1, 2, 0, 0, 3, 4]
    proto = model([node("MatMul", ["x", "w"], ["y"])], [info("x", "b", 8)], [info("y", "b", 6)], {"w": weight.T.copy()})
    x = np.ones((3, 8), np.float32)
    x[0, 0], x[1, 2], x[2, 3] = np.inf, np.nan, -np.inf
    (y,) = sparse_session(proto).run(None, {"x": x})
    assert np.isnan(stock(proto, {"x": x})[0][0, 0])
    assert y[0, 0] == 10
    assert np.isnan(y[1, 0])
    assert y[2, 0] == -np.inf
