"""Quantised models: integers must equal stock onnxruntime's bit for bit."""

import numpy as np
import pytest
from onnx import TensorProto

from sparse_rt import InferenceSession
from sparse_rt.plan.steps.sparse_step import SparseStep
from tests.models.onnx_models import (
    INT8,
    INT32,
    UINT8,
    compare,
    info,
    model,
    node,
    normal,
    sparse_int8,
    sparse_session,
    stock,
)

DTYPES = {"u8": np.uint8, "s8": np.int8}
KINDS = {"u8": UINT8, "s8": INT8}


@pytest.fixture
def rng():
    return np.random.default_rng(11)


def quantised(rng, dtype, *shape):
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max + 1, shape).astype(dtype)


def parameters(rng, name, dtype, low=0.01, high=0.1):
    """Scale and zero point initializers."""
    return {f"{name}_s": np.float32(rng.uniform(low, high)), f"{name}_z": quantised(rng, dtype, 1)[0]}


def weight_parameters(rng, n, per_channel):
    scale = rng.uniform(0.001, 0.02, n).astype(np.float32) if per_channel else np.float32(rng.uniform(0.001, 0.02))
    return {"w_s": scale, "w_z": np.zeros(n if per_channel else (), np.int8)}


def qdq(rng, core, initializers, *, x_type, y_type, per_channel, n, x_shape, y_shape, axis=0, bias=True, after=()):
    """x -> Q -> DQ -> core(weight, bias) -> after -> Q -> DQ -> y, also giving the quantised y."""
    values = {**initializers, **parameters(rng, "x", DTYPES[x_type]), **weight_parameters(rng, n, per_channel)}
    if y_type:
        values |= parameters(rng, "y", DTYPES[y_type], 0.05, 0.5)
    nodes = [
        node("QuantizeLinear", ["x", "x_s", "x_z"], ["x_q"]),
        node("DequantizeLinear", ["x_q", "x_s", "x_z"], ["x_f"]),
        node("DequantizeLinear", ["w", "w_s", "w_z"], ["w_f"], **({"axis": axis} if per_channel else {})),
    ]
    if bias:
        values["b"] = rng.integers(-20000, 20000, n).astype(np.int32)
        values["b_s"] = (values["x_s"] * values["w_s"]).astype(np.float32)
        values["b_z"] = np.zeros_like(values["b_s"], np.int32)
        nodes.append(node("DequantizeLinear", ["b", "b_s", "b_z"], ["b_f"], **({"axis": 0} if per_channel else {})))
    nodes += [core, *after]
    last = nodes[-1].output[0]
    outputs = [info("y", *y_shape)]
    if y_type:
        nodes += [
            node("QuantizeLinear", [last, "y_s", "y_z"], ["y_q"]),
            node("DequantizeLinear", ["y_q", "y_s", "y_z"], ["y"]),
        ]
        outputs.append(info("y_q", *y_shape, kind=KINDS[y_type]))
    return model(nodes, [info("x", *x_shape)], outputs, values)


@pytest.mark.parametrize("x_type", ["u8", "s8"])
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_qdq_conv(rng, x_type, per_channel, bias):
    for attributes in ({"pads": [1, 1, 1, 1]}, {"strides": [2, 2], "dilations": [1, 2]}):
        core = node("Conv", ["x_f", "w_f", "b_f"] if bias else ["x_f", "w_f"], ["c"], **attributes)
        proto = qdq(
            rng,
            core,
            {"w": sparse_int8(rng, 14, 12, 3, 3)},
            x_type=x_type,
            y_type=x_type,
            per_channel=per_channel,
            n=14,
            x_shape=("b", 12, "h", "w"),
            y_shape=("b", 14, "p", "q"),
            bias=bias,
        )
        compare(proto, {"x": 3 * normal(rng, 2, 12, 7, 8)}, layers=1, islands=2)


@pytest.mark.parametrize("x_type", ["u8", "s8"])
@pytest.mark.parametrize("activation", ["Relu", "Clip"])
def test_qdq_conv_with_activation(rng, x_type, activation):
    """Where the zero point is the least value, onnxruntime drops Relu and stays in integers, as we always do."""
    inputs = ["c"] if activation == "Relu" else ["c", "zero", "six"]
    proto = qdq(
        rng,
        node("Conv", ["x_f", "w_f", "b_f"], ["c"]),
        {"w": sparse_int8(rng, 14, 12, 3, 3), "zero": np.float32(0), "six": np.float32(6)},
        x_type=x_type,
        y_type=x_type,
        per_channel=True,
        n=14,
        x_shape=("b", 12, "h", "w"),
        y_shape=("b", 14, "p", "q"),
        after=[node(activation, inputs, ["r"])],
    )
    for initializer in proto.graph.initializer:
        limits = np.iinfo(DTYPES[x_type])
        if initializer.name == "y_z":
            initializer.raw_data = np.array(limits.min, DTYPES[x_type]).tobytes()
        if initializer.name == "y_s":  # the whole range is [0, 6]
            initializer.raw_data = np.float32(6 / 255).tobytes()
    compare(proto, {"x": normal(rng, 2, 12, 7, 8)}, layers=1, islands=2)


@pytest.mark.parametrize("x_type", ["u8", "s8"])
@pytest.mark.parametrize("per_channel", [False, True])
def test_qdq_matmul(rng, x_type, per_channel):
    proto = qdq(
        rng,
        node("MatMul", ["x_f", "w_f"], ["c"]),
        {"w": sparse_int8(rng, 30, 24).T.copy()},
        x_type=x_type,
        y_type=x_type,
        per_channel=per_channel,
        n=30,
        axis=1,
        x_shape=("b", "s", 24),
        y_shape=("b", "s", 30),
        bias=False,
    )
    compare(proto, {"x": normal(rng, 2, 5, 24)}, layers=1, islands=2)


@pytest.mark.parametrize("x_type", ["u8", "s8"])
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("trans_b", [0, 1])
def test_qdq_gemm(rng, x_type, per_channel, trans_b):
    weight = sparse_int8(rng, 30, 24)
    proto = qdq(
        rng,
        node("Gemm", ["x_f", "w_f", "b_f"], ["c"], transB=trans_b),
        {"w": weight if trans_b else weight.T.copy()},
        x_type=x_type,
        y_type=x_type,
        per_channel=per_channel,
        n=30,
        axis=1 - trans_b,
        x_shape=("b", 24),
        y_shape=("b", 30),
    )
    compare(proto, {"x": normal(rng, 5, 24)}, layers=1, islands=2)


def test_qdq_without_quantised_output_gives_floats(rng):
    proto = qdq(
        rng,
        node("Conv", ["x_f", "w_f", "b_f"], ["c"]),
        {"w": sparse_int8(rng, 14, 12, 1, 1)},
        x_type="u8",
        y_type=None,
        per_channel=True,
        n=14,
        x_shape=("b", 12, "h", "w"),
        y_shape=("b", 14, "p", "q"),
        after=[node("Relu", ["c"], ["y"])],
    )
    session = compare(proto, {"x": normal(rng, 2, 12, 7, 8)}, layers=1, islands=1)
    assert "integers" in session.explain()[0].kernel or "u8s8" in session.explain()[0].kernel


def test_weight_only_quantisation_and_conv_transpose_run_in_floats(rng):
    proto = model(
        [
            node("DequantizeLinear", ["w", "w_s", "w_z"], ["w_f"], axis=0),
            node("Conv", ["x", "w_f"], ["c"]),
            node("QuantizeLinear", ["c", "c_s", "c_z"], ["c_q"]),
            node("DequantizeLinear", ["c_q", "c_s", "c_z"], ["c_f"]),
            node("DequantizeLinear", ["v", "w_s", "w_z"], ["v_f"], axis=1),
            node("ConvTranspose", ["c_f", "v_f"], ["y"]),
        ],
        [info("x", "b", 12, 5, 5)],
        [info("y", "b", 8, 6, 6)],
        {
            "w": sparse_int8(rng, 8, 12, 1, 1),
            "v": sparse_int8(rng, 8, 8, 2, 2).swapaxes(0, 1).copy(),
            **weight_parameters(rng, 8, True),
            **parameters(rng, "c", np.uint8),
        },
    )
    session = sparse_session(proto)
    kinds = [type(step).__name__ for step in session.plan.steps]
    assert [kinds[0], kinds[-1], kinds.count("SparseStep")] == ["SparseStep", "SparseStep", 2]
    compare(proto, {"x": normal(rng, 2, 12, 5, 5)}, layers=2, islands=1, tolerance=1e-3)


def test_shared_dequantize_and_fan_out_before_quantize(rng):
    values = {
        **parameters(rng, "x", np.uint8),
        **weight_parameters(rng, 8, False),
        **parameters(rng, "y", np.uint8, 0.2, 0.5),
        "w": sparse_int8(rng, 8, 8, 1, 1),
    }
    proto = model(
        [
            node("QuantizeLinear", ["x", "x_s", "x_z"], ["x_q"]),
            node("DequantizeLinear", ["x_q", "x_s", "x_z"], ["x_f"]),
            node("DequantizeLinear", ["w", "w_s", "w_z"], ["w_f"]),
            node("Conv", ["x_f", "w_f"], ["c"]),
            node("QuantizeLinear", ["c", "y_s", "y_z"], ["y_q"]),
            node("Add", ["c", "x_f"], ["s"]),
            node("Neg", ["x_f"], ["n"]),
        ],
        [info("x", "b", 8, 3, 3)],
        [info("y_q", "b", 8, 3, 3, kind=UINT8), info("s", "b", 8, 3, 3), info("n", "b", 8, 3, 3)],
        values,
    )
    session = compare_floats(proto, {"x": normal(rng, 2, 8, 3, 3)})
    assert sum(isinstance(step, SparseStep) for step in session.plan.steps) == 1


def compare_floats(proto, feeds):
    """Rounding may differ where onnxruntime itself computes in floats: at most one step, rarely."""
    session = sparse_session(proto)
    for y, reference in zip(session.run(None, feeds), stock(proto, feeds), strict=True):
        assert y.dtype == reference.dtype
        if y.dtype == np.float32:
            np.testing.assert_allclose(y, reference, rtol=1e-5, atol=1e-4)
        else:
            assert np.abs(y.astype(int) - reference.astype(int)).max() <= 1
    return session


def test_residual_qdq_keeps_integers_between_islands(rng):
    """x_q -> conv -> conv -> add(x) -> q: the join is one island that onnxruntime fuses to QLinearAdd."""
    values = {"w": sparse_int8(rng, 8, 8, 3, 3), **weight_parameters(rng, 8, True)}
    for name in ("x", "a", "b", "y"):
        values |= parameters(rng, name, np.uint8, 0.05, 0.2)
    nodes = [
        node("QuantizeLinear", ["x", "x_s", "x_z"], ["x_q"]),
        node("DequantizeLinear", ["x_q", "x_s", "x_z"], ["x_f"]),
    ]
    for source, name in (("x", "a"), ("a", "b")):
        nodes += [
            node("DequantizeLinear", ["w", "w_s", "w_z"], [f"w_{name}"], axis=0),
            node("Conv", [f"{source}_f", f"w_{name}"], [f"{name}_c"], pads=[1, 1, 1, 1]),
            node("QuantizeLinear", [f"{name}_c", f"{name}_s", f"{name}_z"], [f"{name}_q"]),
            node("DequantizeLinear", [f"{name}_q", f"{name}_s", f"{name}_z"], [f"{name}_f"]),
        ]
    nodes += [
        node("Add", ["b_f", "x_f"], ["s"]),
        node("QuantizeLinear", ["s", "y_s", "y_z"], ["y_q"]),
        node("DequantizeLinear", ["y_q", "y_s", "y_z"], ["y"]),
    ]
    proto = model(nodes, [info("x", "b", 8, 5, 5)], [info("y", "b", 8, 5, 5)], values)
    session = compare(proto, {"x": normal(rng, 2, 8, 5, 5)}, layers=2, islands=2)
    join = [step for step in session.plan.steps if "b_q" in step.inputs]
    assert [set(step.inputs) for step in join] == [{"b_q", "x_q"}]


@pytest.mark.parametrize("x_type", ["u8", "s8"])
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_qlinear_conv(rng, x_type, per_channel, bias):
    dtype, kind = DTYPES[x_type], KINDS[x_type]
    values = {
        "w": sparse_int8(rng, 10, 16, 3, 2),
        **parameters(rng, "x", dtype),
        **parameters(rng, "y", dtype, 0.3, 0.9),
    }
    values |= weight_parameters(rng, 10, per_channel)
    inputs = ["x", "x_s", "x_z", "w", "w_s", "w_z", "y_s", "y_z"]
    if bias:
        values["b"] = rng.integers(-30000, 30000, 10).astype(np.int32)
        inputs.append("b")
    proto = model(
        [node("QLinearConv", inputs, ["y"], pads=[1, 0, 0, 1], strides=[1, 2])],
        [info("x", "b", 16, "h", "w", kind=kind)],
        [info("y", "b", 10, "p", "q", kind=kind)],
        values,
    )
    compare(proto, {"x": quantised(rng, dtype, 2, 16, 9, 10)}, layers=1, islands=0)


@pytest.mark.parametrize("x_type", ["u8", "s8"])
@pytest.mark.parametrize("per_channel", [False, True])
def test_qlinear_matmul(rng, x_type, per_channel):
    dtype, kind = DTYPES[x_type], KINDS[x_type]
    values = {
        "w": sparse_int8(rng, 20, 32).T.copy(),
        **parameters(rng, "x", dtype),
        **parameters(rng, "y", dtype, 0.3, 0.9),
    }
    values |= weight_parameters(rng, 20, per_channel)
    proto = model(
        [node("QLinearMatMul", ["x", "x_s", "x_z", "w", "w_s", "w_z", "y_s", "y_z"], ["y"])],
        [info("x", "b", "s", 32, kind=kind)],
        [info("y", "b", "s", 20, kind=kind)],
        values,
    )
    compare(proto, {"x": quantised(rng, dtype, 2, 9, 32)}, layers=1, islands=0)


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("float_output", [False, True])
@pytest.mark.parametrize("alpha", [1.0, 0.7])
def test_qgemm(rng, per_channel, float_output, alpha):
    values = {
        "w": sparse_int8(rng, 20, 32),
        **parameters(rng, "x", np.uint8),
        **parameters(rng, "y", np.uint8, 0.3, 0.9),
    }
    values |= weight_parameters(rng, 20, per_channel)
    values["b"] = rng.integers(-30000, 30000, 20).astype(np.int32)
    inputs = ["x", "x_s", "x_z", "w", "w_s", "w_z", "b"] + ([] if float_output else ["y_s", "y_z"])
    proto = model(
        [node("QGemm", inputs, ["y"], domain="com.microsoft", transB=1, alpha=alpha)],
        [info("x", "b", 32, kind=UINT8)],
        [info("y", "b", 20, kind=TensorProto.FLOAT if float_output else UINT8)],
        values,
    )
    compare(proto, {"x": quantised(rng, np.uint8, 9, 32)}, layers=1, islands=0, tolerance=1e-6)


def test_qgemm_with_a_scale_of_y_and_no_zero_point_stays_with_onnxruntime(rng):
    """It divides by the scale there, and gives floats."""
    values = {"w": sparse_int8(rng, 20, 32), **parameters(rng, "x", np.uint8), **weight_parameters(rng, 20, False)}
    values |= {"y_s": np.float32(0.5), "b": rng.integers(-30000, 30000, 20).astype(np.int32)}
    inputs = ["x", "x_s", "x_z", "w", "w_s", "w_z", "b", "y_s"]
    proto = model(
        [node("QGemm", inputs, ["y"], domain="com.microsoft", transB=1)],
        [info("x", "b", 32, kind=UINT8)],
        [info("y", "b", 20)],
        values,
    )
    compare(proto, {"x": quantised(rng, np.uint8, 9, 32)}, layers=0)


def test_requantisation_equals_onnxruntime_on_many_random_scales(rng):
    """Order and precision of x_scale * w_scale / y_scale show only in ties and near them."""
    weight = sparse_int8(rng, 64, 16)
    x = quantised(rng, np.uint8, 300, 16)
    for case in range(25):
        values = {
            "w": weight[:, :, None, None],
            **parameters(rng, "x", np.uint8, 1e-3, 1),
            **weight_parameters(rng, 64, case % 2),
        }
        values |= parameters(rng, "y", np.uint8, 1e-2, 10)
        if case % 5 == 0:  # powers of two: exact ties
            values |= {"x_s": np.float32(0.5), "w_s": np.full_like(values["w_s"], 0.25), "y_s": np.float32(16)}
        conv = ["x", "x_s", "x_z", "w", "w_s", "w_z", "y_s", "y_z"]
        proto = model(
            [node("QLinearConv", conv, ["y"])],
            [info("x", 300, 16, 1, 1, kind=UINT8)],
            [info("y", 300, 64, 1, 1, kind=UINT8)],
            values,
        )
        compare(proto, {"x": x[:, :, None, None]}, layers=1)
        values["w"] = weight.T.copy()
        proto = model(
            [node("QLinearMatMul", conv, ["y"])],
            [info("x", 300, 16, kind=UINT8)],
            [info("y", 300, 64, kind=UINT8)],
            values,
        )
        compare(proto, {"x": x}, layers=1)


@pytest.mark.parametrize("zero_point", ["constant", "none", "fed"])
@pytest.mark.parametrize("x_type", ["u8", "s8"])
def test_matmul_integer(rng, zero_point, x_type):
    dtype, kind = DTYPES[x_type], KINDS[x_type]
    values = {"w": sparse_int8(rng, 20, 32).T.copy()}
    inputs = ["x", "w"] + ([] if zero_point == "none" else ["z"])
    fed = [info("z", kind=kind)] if zero_point == "fed" else []
    point = np.array(7, dtype)
    if zero_point == "constant":
        values["z"] = point
    proto = model(
        [node("MatMulInteger", inputs, ["y"])],
        [info("x", "b", 32, kind=kind), *fed],
        [info("y", "b", 20, kind=INT32)],
        values,
    )
    feeds = {"x": quantised(rng, dtype, 9, 32)} | ({"z": point} if fed else {})
    compare(proto, feeds, layers=1, islands=0)


def test_matmul_integer_with_the_constant_on_the_left(rng):
    proto = model(
        [node("MatMulInteger", ["w", "x", "", "z"], ["y"])],
        [info("x", "b", 32, 5, kind=UINT8)],
        [info("y", "b", 20, 5, kind=INT32)],
        {"w": sparse_int8(rng, 20, 32), "z": np.uint8(9)},
    )
    compare(proto, {"x": quantised(rng, np.uint8, 3, 32, 5)})


@pytest.mark.parametrize("zero_point", [None, 0, 200])
def test_conv_integer(rng, zero_point):
    values = {"w": sparse_int8(rng, 6, 12, 3, 3)}
    if zero_point is not None:
        values["z"] = np.uint8(zero_point)
    proto = model(
        [node("ConvInteger", ["x", "w"] + (["z"] if zero_point is not None else []), ["y"], pads=[1, 1, 1, 1])],
        [info("x", "b", 12, "h", "w", kind=UINT8)],
        [info("y", "b", 6, "h", "w", kind=INT32)],
        values,
    )
    compare(proto, {"x": quantised(rng, np.uint8, 2, 12, 5, 6)}, layers=1, islands=0)


@pytest.mark.parametrize("per_channel", [False, True])
def test_dynamic_quantisation_chain(rng, per_channel):
    proto = model(
        [
            node("DynamicQuantizeLinear", ["x"], ["x_q", "x_s", "x_z"]),
            node("MatMulInteger", ["x_q", "w", "x_z", "w_z"], ["a"]),
            node("Cast", ["a"], ["f"], to=1),
            node("Mul", ["x_s", "w_s"], ["s"]),
            node("Mul", ["f", "s"], ["m"]),
            node("Add", ["m", "b"], ["r"]),
            node("Relu", ["r"], ["y"]),
        ],
        [info("x", "b", "s", 32)],
        [info("y", "b", "s", 20)],
        {"w": sparse_int8(rng, 20, 32).T.copy(), "b": normal(rng, 20), **weight_parameters(rng, 20, per_channel)},
    )
    for size in (1, 7):
        session = compare(proto, {"x": normal(rng, 2, size, 32)}, layers=1, islands=1, tolerance=1e-6)
        assert session.plan.steps[-1].inputs == ("x_q", "x_z", "s")


def test_dynamic_convolution_pads_with_the_zero_point_of_the_run(rng):
    proto = model(
        [
            node("DynamicQuantizeLinear", ["x"], ["x_q", "x_s", "x_z"]),
            node("ConvInteger", ["x_q", "w", "x_z", "w_z"], ["a"], pads=[1, 1, 1, 1]),
            node("Cast", ["a"], ["f"], to=1),
            node("Mul", ["w_s", "x_s"], ["s"]),
            node("Mul", ["s", "f"], ["m"]),
            node("Add", ["m", "b"], ["y"]),
        ],
        [info("x", "b", 12, "h", "w_")],
        [info("y", "b", 6, "h", "w_")],
        {"w": sparse_int8(rng, 6, 12, 3, 3), "b": normal(rng, 6, 1, 1), **weight_parameters(rng, 6, False)},
    )
    for shift in (0, 2, -1):
        x = normal(rng, 2, 12, 5, 6) + np.float32(shift)
        compare(proto, {"x": x}, layers=1, islands=1, tolerance=1e-6)


def test_uint8_weights_stay_in_onnxruntime_unless_they_fit_int8(rng):
    for shift, layers in ((0, 1), (128, 0)):
        weight = np.abs(sparse_int8(rng, 20, 32)).astype(np.uint8)
        weight[0, 0] |= shift
        weight[0, 1:4] = 0
        proto = model(
            [node("MatMulInteger", ["x", "w"], ["y"])],
            [info("x", "b", 32, kind=UINT8)],
            [info("y", "b", 20, kind=INT32)],
            {"w": weight.T.copy()},
        )
        session = compare(proto, {"x": quantised(rng, np.uint8, 9, 32)}, layers=layers)
        assert layers or "uint8" in session.explain()[0].reason


def test_a_sum_that_could_leave_int32_is_refused():
    weight = np.zeros((8, 140000), np.int8)
    weight[:, ::4] = 127
    weight[:, 1::4] = -128
    proto = model(
        [node("MatMulInteger", ["x", "w"], ["y"])],
        [info("x", "b", 140000, kind=UINT8)],
        [info("y", "b", 8, kind=INT32)],
        {"w": weight.T.copy()},
    )
    (report,) = InferenceSession(proto).explain()
    assert report.kernel is None
    assert "overflow" in report.reason
