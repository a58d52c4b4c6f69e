"""verify: equal, different with the right layer named, and cannot say."""

import importlib
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import sparse_rt as srt
from sparse_rt.errors import FeedError, ModelError
from sparse_rt.graph.layers.find import find_layers
from sparse_rt.graph.model_io import read
from sparse_rt.verify.bounds import EPS, C, elementwise_bound, end_to_end_tolerance, noise_tolerance
from sparse_rt.verify.compare import bounded, exact, rms_distance, rms_within, within
from tests import naive
from tests.models.onnx_models import FLOAT, INT32, UINT8, info, model, node, normal, sparse, sparse_int8


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def two_layers(rng):
    return model(
        [
            node("MatMul", ["x", "w1"], ["a"], name="first"),
            node("Relu", ["a"], ["b"]),
            node("Gemm", ["b", "w2", "b2"], ["y"], transB=1, name="second"),
        ],
        [info("x", "batch", 24)],
        [info("y", "batch", 8)],
        {"w1": sparse(rng, 16, 24).T.copy(), "w2": sparse(rng, 8, 16), "b2": normal(rng, 8)},
    )


def convolutions(rng):
    return model(
        [
            node("Conv", ["x", "w1", "b1"], ["a"], name="conv", auto_pad="SAME_UPPER", strides=[2, 2]),
            node("Relu", ["a"], ["b"]),
            node("ConvTranspose", ["b", "w2"], ["y"], name="transposed", strides=[2, 2], output_padding=[1, 1]),
        ],
        [info("x", "batch", 8, "height", "width")],
        [info("y", "batch", 6, None, None)],
        {
            "w1": sparse(rng, 12, 8, 3, 3),
            "b1": normal(rng, 12),
            "w2": sparse(rng, 6, 12, 3, 3).swapaxes(0, 1).copy(),
        },
    )


def left_product(rng):
    return model(
        [node("MatMul", ["w", "x"], ["y"], name="left")],
        [info("x", "batch", 20, 7)],
        [info("y", "batch", 12, 7)],
        {"w": sparse(rng, 12, 20)},
    )


def dynamic_quantised(rng):
    return model(
        [
            node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
            node("MatMulInteger", ["q", "w", "z"], ["acc"], name="integer"),
            node("Cast", ["acc"], ["f"], to=FLOAT),
            node("Mul", ["f", "s"], ["y"]),
        ],
        [info("x", "batch", 32)],
        [info("y", "batch", 16)],
        {"w": sparse_int8(rng, 16, 32).T.copy()},
    )


def dynamic_chain(rng):
    """As onnxruntime's quantize_dynamic writes it: the scale of each run times the weight's."""
    return model(
        [
            node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
            node("MatMulInteger", ["q", "w", "z"], ["acc"], name="integer"),
            node("Cast", ["acc"], ["f"], to=FLOAT),
            node("Mul", ["s", "ws"], ["scale"]),
            node("Mul", ["f", "scale"], ["m"]),
            node("Add", ["m", "b"], ["y"]),
        ],
        [info("x", "batch", 32)],
        [info("y", "batch", 16)],
        {
            "w": sparse_int8(rng, 16, 32).T.copy(),
            "ws": rng.uniform(0.01, 0.02, 16).astype(np.float32),
            "b": normal(rng, 16),
        },
    )


def quantised(rng, *, float_output):
    """QuantizeLinear -> Gemm -> (QuantizeLinear ->) y, symmetric weights for each channel."""
    scales = rng.uniform(0.001, 0.01, 16).astype(np.float32)
    nodes = [
        node("QuantizeLinear", ["x", "xs", "xz"], ["q"]),
        node("DequantizeLinear", ["q", "xs", "xz"], ["d"]),
        node("DequantizeLinear", ["w", "ws", "wz"], ["wd"], axis=0),
        node("Gemm", ["d", "wd"], ["g" if not float_output else "y"], transB=1, name="gemm"),
    ]
    if not float_output:
        nodes.append(node("QuantizeLinear", ["g", "ys", "yz"], ["y"]))
    constants = {
        "xs": np.float32(0.02),
        "xz": np.uint8(117),
        "w": sparse_int8(rng, 16, 32),
        "ws": scales,
        "wz": np.zeros(16, np.int8),
        "ys": np.float32(0.05),
        "yz": np.uint8(128),
    }
    output = info("y", "batch", 16, kind=FLOAT if float_output else UINT8)
    return model(nodes, [info("x", "batch", 32)], [output], constants)


def mutated(proto, name, value):
    """A copy with one nonzero element of the initializer `name` changed to `value(element)`."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    for tensor in copy.graph.initializer:
        if tensor.name == name:
            array = numpy_helper.to_array(tensor).copy()
            position = tuple(np.argwhere(array)[len(array) // 2])
            array[position] = value(array[position])
            tensor.CopyFrom(numpy_helper.from_array(array, name))
            return copy
    raise LookupError(name)


# --- equal -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("build", [two_layers, convolutions, left_product, dynamic_quantised, dynamic_chain])
@pytest.mark.parametrize("compressed", [False, True])
def test_models_are_equal_to_themselves_in_onnxruntime(rng, build, compressed):
    proto = build(rng)
    report = srt.verify(srt.compress(proto) if compressed else proto, proto if compressed else None)
    assert report.status == "equal", report
    assert (report.equal, report.exit_code, report.first_difference) == (True, 0, None)
    assert report.layers
    assert all(layer.comparison is not None for layer in report.layers), report.layers
    assert {layer.weight for layer in report.layers} == {"equal" if compressed else "same file"}


@pytest.mark.parametrize("float_output", [False, True])
def test_quantised_layers(rng, float_output):
    proto = quantised(rng, float_output=float_output)
    report = srt.verify(srt.compress(proto), proto, {"x": normal(rng, 5, 32)})
    assert report.equal, report
    (layer,) = report.layers
    assert layer.rule == ("bound" if float_output else "exact")
    assert layer.comparison.worst < 1
    assert report.outputs[0].rule == ("rms" if float_output else "exact")


def test_report_tells_cosine_and_top1_of_logits(rng):
    proto = two_layers(rng)
    (output,) = srt.verify(proto, feeds={"x": normal(rng, 9, 24)}).outputs
    assert output.cosine == pytest.approx(1)
    assert output.top1_agreement == 1


def test_model_without_sparse_layers_is_compared_at_its_outputs(rng):
    proto = model([node("Relu", ["x"], ["y"])], [info("x", 2, 3)], [info("y", 2, 3)])
    report = srt.verify(proto)
    assert report.equal
    assert report.layers == ()


def test_model_without_inputs(rng):
    proto = model([node("Relu", ["c"], ["y"])], [], [info("y", 3)], {"c": normal(rng, 3)})
    assert srt.verify(proto).equal


def residual(rng):
    return model(
        [
            node("Conv", ["x", "w1"], ["a"], name="first"),
            node("Conv", ["a", "w2"], ["b"], name="second"),
            node("Add", ["a", "b"], ["c"]),
            node("Relu", ["c"], ["y"]),
        ],
        [info("x", "batch", 8, 5, 9)],
        [info("y", "batch", 16, 5, 9)],
        {"w1": sparse(rng, 16, 8, 1, 1), "w2": sparse(rng, 16, 16, 1, 1)},
    )


def test_layers_that_add_a_residual_are_compared(rng):
    proto = residual(rng)
    report = srt.verify(srt.compress(proto), proto, batch=3)
    assert [(layer.name, layer.status, layer.weight) for layer in report.layers] == [
        ("first", "equal", "equal"),
        ("second", "equal", "equal"),
    ]


def test_a_changed_layer_that_adds_a_residual_is_found(rng):
    proto = residual(rng)
    report = srt.verify(mutated(srt.compress(proto), "w2.filter_compress", lambda v: -v), proto, batch=3)
    assert (report.status, report.first_difference) == ("different", "second")


# --- different ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [lambda v: v * np.float32(1.01), lambda v: -v, lambda v: np.float32(1e30)])
def test_one_changed_float_value_is_found_in_its_layer(rng, change):
    proto = two_layers(rng)
    report = srt.verify(mutated(srt.compress(proto), "w2.filter_compress", change), proto, batch=16)
    assert (report.status, report.exit_code, report.first_difference) == ("different", 1, "second")
    first, second = report.layers
    assert first.status == "equal"
    assert (second.weight, second.comparison.equal) == ("different", False)
    assert "'second'" in report.reason


def test_one_changed_integer_value_is_found(rng):
    proto = quantised(rng, float_output=False)
    corrupt = mutated(srt.compress(proto), "w.filter_compress", lambda v: np.int8(v - 1 if v > 0 else v + 1))
    report = srt.verify(corrupt, proto)
    assert report.first_difference == "gemm"


def test_one_changed_index_is_found(rng):
    proto = two_layers(rng)
    compressed = srt.compress(proto)
    report = srt.verify(mutated(compressed, "w1.compress_index", lambda v: np.uint8(0)), proto)
    assert report.first_difference == "first"


def test_a_changed_weight_is_found_even_where_the_feed_is_zero(rng):
    proto = two_layers(rng)
    corrupt = mutated(srt.compress(proto), "w1.filter_compress", lambda v: v * np.float32(2))
    report = srt.verify(corrupt, proto, {"x": np.zeros((1, 24), np.float32)})
    assert report.layers[0].comparison.equal
    assert report.first_difference == "first"


def test_a_difference_outside_sparse_layers_is_named_by_its_output(rng):
    proto = two_layers(rng)
    proto.graph.node.append(node("Sum", ["y", "shift"], ["z"]))
    proto.graph.initializer.append(numpy_helper.from_array(np.full((1, 8), 0.5, np.float32), "shift"))
    proto.graph.output[0].name = "z"
    report = srt.verify(mutated(srt.compress(proto), "shift", lambda v: np.float32(0.6)), proto)
    assert (report.status, report.first_difference) == ("different", "z")
    assert all(layer.status == "equal" for layer in report.layers)
    assert "output" in report.reason


def test_other_names_inside_still_allow_the_outputs_to_be_compared(rng):
    proto = two_layers(rng)
    renamed = onnx.ModelProto()
    renamed.CopyFrom(proto)
    for item in renamed.graph.node:
        item.input[:] = [f"other_{name}" if name in "ab" else name for name in item.input]
        item.output[:] = [f"other_{name}" if name in "ab" else name for name in item.output]
    report = srt.verify(proto, renamed)
    assert report.equal
    assert report.layers[0].comparison is None
    assert "no value" in report.layers[0].note


# --- cannot say --------------------------------------------------------------------------------------------------


def test_all_nan_says_nothing(rng):
    proto = model([node("Div", ["x", "x"], ["y"])], [info("x", 2, 3)], [info("y", 2, 3)])
    report = srt.verify(proto, feeds={"x": np.zeros((2, 3), np.float32)})
    assert (report.status, report.exit_code, report.equal) == ("unknown", 2, False)
    assert "NaN" in report.reason


def test_no_common_output_says_nothing(rng):
    a = model([node("Relu", ["x"], ["y"])], [info("x", 2)], [info("y", 2)])
    b = model([node("Relu", ["x"], ["z"])], [info("x", 2)], [info("z", 2)])
    assert srt.verify(a, b).exit_code == 2


def test_shapes_that_cannot_be_guessed(rng):
    proto = model([node("Relu", ["x"], ["y"])], [info("x", 1, 2, 3, 4, "mystery")], [info("y", 1, 2, 3, 4, "mystery")])
    with pytest.raises(FeedError, match="can be guessed"):
        srt.verify(proto)


def test_a_reference_that_does_not_load(rng):
    with pytest.raises(ModelError):
        srt.verify(two_layers(rng), b"not onnx")


def test_zero_times_infinity_may_be_zero(rng):
    proto = two_layers(rng)
    x = normal(rng, 2, 24)
    x[0, 3] = np.inf
    report = srt.verify(proto, feeds={"x": x})
    assert report.layers[0].status == "equal", report.layers[0]
    assert "0 x inf" in report.layers[0].note


# --- the rules ---------------------------------------------------------------------------------------------------


def test_bound_is_what_the_formula_says(rng):
    w, x, bias = sparse(rng, 6, 8, 3, 3), normal(rng, 2, 8, 5, 5), normal(rng, 6)
    proto = model(
        [node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1], strides=[2, 1])],
        [info("x", 2, 8, 5, 5)],
        [info("y", None, None, None, None)],
        {"w": w},
    )
    (layer,) = find_layers(read(proto))
    scale = rng.uniform(0.5, 2, 6).astype(np.float32)
    magnitude = naive.conv2d(np.abs(x).astype(np.float64), np.abs(w * scale[:, None, None, None]), (2, 1), (1, 1, 1, 1))
    expected = C * (72 + 1) * EPS * (magnitude + np.abs(bias)[:, None, None])
    np.testing.assert_allclose(elementwise_bound(layer, x, scale, np.abs(bias)), expected, rtol=1e-4)


def test_tolerance_grows_with_the_layers_and_ends():
    assert end_to_end_tolerance([10]) < end_to_end_tolerance([10, 500]) < 1e-3
    assert end_to_end_tolerance([10**7]) == 2**-6
    assert noise_tolerance(0) == 2**-8
    assert noise_tolerance(0.03) == 0.06
    assert noise_tolerance(1) == 2**-3


def test_rms_distance():
    assert rms_distance(np.array([3.0, 4.0, np.nan]), np.array([3.0, 5.0, 1.0])) == pytest.approx(1 / np.sqrt(34))
    assert rms_distance(np.zeros(2), np.zeros(2)) == rms_distance(np.zeros(2), np.zeros(3)) == 0


def test_exact_counts_steps():
    found = exact(np.array([0, 255, 7], np.uint8), np.array([255, 255, 8], np.uint8))
    assert (found.equal, found.elements, found.differing, found.max_error) == (False, 3, 2, 255)
    assert exact(np.array([1], np.int8), np.array([1], np.int32)).note == "int8 [1] against int32 [1]"
    assert exact(np.array(["a"]), np.array(["a"])).equal


@pytest.mark.parametrize(
    ("y", "reference", "equal"),
    [
        (1.0, 1.05, True),
        (1.0, 1.2, False),
        (np.nan, np.nan, True),
        (np.nan, 1.0, False),
        (1.0, np.nan, False),
        (np.inf, np.inf, True),
        (np.inf, -np.inf, False),
        (np.inf, 1.0, False),
    ],
)
def test_bounded_elements(y, reference, equal):
    found = bounded(np.array([y]), np.array([reference]), np.array([0.1]), may_lose_nan=False)
    assert found.equal is equal
    assert (found.worst > 1) is not equal


def test_a_lost_nan_is_excused_only_where_the_input_explains_it():
    y, reference = np.array([0.0, 1.0]), np.array([np.nan, 1.0])
    assert bounded(y, reference, np.array(0.0), may_lose_nan=True).equal
    assert not bounded(y, reference, np.array(0.0), may_lose_nan=False).equal


def test_within_is_relative_to_the_largest_finite_value():
    reference = np.array([100.0, 0.0, np.inf])
    assert within(np.array([100.0, 0.9, np.inf]), reference, 0.01, may_lose_nan=False).equal
    assert not within(np.array([100.0, 1.1, np.inf]), reference, 0.01, may_lose_nan=False).equal


def test_rms_judges_the_whole():
    reference = np.full(100, 2.0)
    y = reference.copy()
    y[0] = 2.1  # rms of the difference 0.01, 0.005 of the reference's
    assert rms_within(y, reference, 0.006, may_lose_nan=False).equal
    assert not rms_within(y, reference, 0.004, may_lose_nan=False).equal
    for odd in (np.nan, np.inf):
        y[1] = odd
        assert not rms_within(y, reference, 0.006, may_lose_nan=False).equal
    assert not rms_within(np.ones(2), np.zeros(2), 0.5, may_lose_nan=False).equal
    assert rms_within(np.zeros(2), np.zeros(2), 0.5, may_lose_nan=False).equal


@pytest.mark.parametrize(
    "imports",
    [
        "import sparse_rt as srt",
        "import sparse_rt.verify\nimport sparse_rt as srt",
        "from sparse_rt.verify import VerifyReport\nimport sparse_rt as srt",
        "import sparse_rt.prune\nimport sparse_rt as srt\nfrom sparse_rt.prune import prune_model",
        "from sparse_rt import verify, prune\nimport sparse_rt as srt",
    ],
)
def test_functions_named_like_their_module_are_functions(imports):
    code = f"{imports}\nimport inspect\nassert all(map(inspect.isfunction, (srt.verify, srt.prune)))"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_every_public_name_can_be_imported():
    for name in srt.__all__:
        assert getattr(srt, name) is not None
    assert set(srt.__all__) <= set(dir(srt))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = srt.nothing


def test_integers_reach_the_outputs_exactly(rng):
    proto = model(
        [node("MatMulInteger", ["x", "w"], ["y"], name="integer")],
        [info("x", "batch", 16, kind=UINT8)],
        [info("y", "batch", 8, kind=INT32)],
        {"w": sparse_int8(rng, 8, 16).T.copy()},
    )
    report = srt.verify(srt.compress(proto), proto, batch=3)
    assert report.equal
    assert [check.rule for check in (*report.layers, *report.outputs)] == ["exact", "exact"]
    assert report.outputs[0].comparison.elements == 24


def test_tensor_names_are_found_whatever_the_source(rng, tmp_path):
    proto = two_layers(rng)
    path = tmp_path / "m.onnx"
    onnx.save(proto, path)
    for source in (str(path), path, proto.SerializeToString(), proto):
        report = srt.verify(source)
        assert report.layers[0].comparison is not None


@pytest.mark.parametrize("build", [two_layers, convolutions, left_product, dynamic_quantised])
def test_a_large_model_is_held_against_its_dense_form(build, rng, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.import_module("sparse_rt.verify.verification"), "DECOMPRESS_LIMIT", 0)
    path = tmp_path / "compressed.onnx"
    onnx.save(srt.compress(build(rng)), path)
    report = srt.verify(str(path), batch=2)
    assert report.equal, report.reason
    assert report.reference == f"{path}, decompressed"
    assert all(layer.comparison is not None for layer in report.layers)


def test_the_noise_of_the_reference_is_the_yardstick_of_quantised_outputs(rng):
    report = srt.verify(srt.compress(dynamic_quantised(rng)), batch=2)
    rules = {check.rule for check in report.outputs}
    assert rules <= {"rms", "exact"}
    assert all(2**-8 <= check.tolerance <= 2**-3 for check in report.outputs if check.rule == "rms")


@pytest.mark.parametrize(("kind", "opset"), [("BFLOAT16", 17), ("INT4", 21)])
def test_outputs_of_which_there_are_no_arrays_cannot_be_compared(kind, opset):
    number = getattr(onnx.TensorProto, kind)
    nodes = [node("MatMul", ["x", "w"], ["y"]), node("Cast", ["y"], ["z"], to=number)]
    weight = sparse(np.random.default_rng(6), 8, 8).T.copy()
    outputs = [info("y", 2, 8), info("z", 2, 8, kind=number)]
    proto = model(nodes, [info("x", 2, 8)], outputs, {"w": weight}, opset)
    with pytest.raises(srt.ModelError, match=r"output 'z': expected a type .*, got tensor\((bfloat16|int4)\)"):
        srt.verify(proto)


def with_float_bias(bias, activation=()):
    """A layer between DequantizeLinear and QuantizeLinear that onnxruntime does not run on bytes as it stands."""
    rng = np.random.default_rng(11)
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], ["xq"]),
        node("DequantizeLinear", ["xq", "s", "z"], ["xd"]),
        node("DequantizeLinear", ["w", "ws", "wz"], ["wd"], axis=0),
        node("Gemm", ["xd", "wd", "b"], ["g"], transB=1),
        *activation,
        node("QuantizeLinear", ["r" if activation else "g", "t", "z"], ["yq"]),
        node("DequantizeLinear", ["yq", "t", "z"], ["y"]),
    ]
    held = {
        "w": sparse_int8(rng, 64, 32),
        "ws": rng.uniform(0.001, 0.003, 64).astype(np.float32),
        "wz": np.zeros(64, np.int8),
        "b": bias,
        "s": np.float32(0.0261),
        "t": np.float32(0.0141),
        "z": np.int8(0),
    }
    return model(nodes, [info("x", 900, 32)], [info("y", 900, 64)], held)


@pytest.mark.parametrize("activation", [(), (node("Clip", ["g", "low", "high"], ["r"]),)], ids=["plain", "clipped"])
def test_layers_that_the_reference_computes_in_floats(activation):
    bias = np.random.default_rng(12).uniform(-1, 1, 64).astype(np.float32)
    found = []
    for one in (bias, bias + np.float32(0.0141) * (np.arange(64) == 9)):
        proto = with_float_bias(one, activation)
        proto.graph.initializer.extend(numpy_helper.from_array(np.float32(v), k) for k, v in [("low", 0), ("high", 1)])
        found.append(proto)
    report = srt.verify(found[0])
    assert report.exit_code == 0
    assert report.layers[0].rule == "bound"
    report = srt.verify(found[0], found[1])
    assert (report.exit_code, report.layers[0].comparison.differing > 0) == (1, True)


@pytest.mark.parametrize("overridden", ["v", "w", "b"])
def test_feeds_of_initializers_that_callers_may_override_reach_the_reference(rng, overridden):
    """Their names are not among a session's inputs; verify called a right answer different."""
    proto = model(
        [
            node("MatMul", ["x", "w"], ["a"], name="a"),
            node("Add", ["a", "b"], ["c"]),
            node("MatMul", ["c", "v"], ["y"]),
        ],
        [info("x", 2, 8)],
        [info("y", 2, 8)],
        {"w": sparse(rng, 8, 8).T.copy(), "b": normal(rng, 8), "v": sparse(rng, 8, 8).T.copy()},
    )
    shape = (8,) if overridden == "b" else (8, 8)
    proto.graph.input.append(info(overridden, *shape))
    feeds = {"x": normal(rng, 2, 8), overridden: normal(rng, *shape)}
    for given in (feeds, {"x": feeds["x"]}):
        report = srt.verify(proto, feeds=given)
        assert report.exit_code == 0, report.reason


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
