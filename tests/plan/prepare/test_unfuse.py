"""What onnxruntime writes when it saves an optimised model runs sparse, and gives what onnxruntime gives."""

import logging

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper

import sparse_rt as srt
from benchmarks.models import bert, resnet50
from benchmarks.models.quantise import quantise_dynamic
from sparse_rt.graph import model_io
from sparse_rt.graph.layers.find import find_layers
from sparse_rt.plan.draft import Draft
from sparse_rt.plan.match.choose import choose
from sparse_rt.plan.prepare.prepare import prepare
from sparse_rt.plan.steps.sparse_step import SparseStep
from sparse_rt.prune import prune
from tests.models.onnx_models import INT8, UINT8, compare, info, model, node, normal, sparse, sparse_int8, stock

MICROSOFT = "com.microsoft"


@pytest.fixture
def rng():
    return np.random.default_rng(11)


@pytest.mark.parametrize("trans_b", [0, 1])
def test_fused_matmul_and_its_neighbours(rng, trans_b):
    weight = sparse(rng, 7, 10)
    proto = model(
        [
            node("FusedMatMul", ["x", "w"], ["a"], domain=MICROSOFT, alpha=0.3, transB=trans_b),
            node("Add", ["a", "b"], ["c"]),
            node("Relu", ["c"], ["y"]),
        ],
        [info("x", "batch", 3, 10)],
        [info("y", "batch", 3, 7)],
        {"w": weight if trans_b else weight.T.copy(), "b": normal(rng, 7)},
    )
    compare(proto, {"x": normal(rng, 2, 3, 10)}, layers=1, islands=0)


ACTIVATIONS = [
    ("Relu", []),
    ("Sigmoid", []),
    ("Tanh", []),
    ("LeakyRelu", [0.1]),
    ("HardSigmoid", [0.3, 0.4]),
    ("Clip", [-0.2, 0.7]),
]


@pytest.mark.parametrize("addend", [False, True])
@pytest.mark.parametrize(("activation", "numbers"), ACTIVATIONS)
def test_fused_conv(rng, activation, numbers, addend):
    inputs = ["x", "w", "b", "z"] if addend else ["x", "w"]
    fused = node("FusedConv", inputs, ["y"], name="c", domain=MICROSOFT, activation=activation, pads=[1, 0, 1, 0])
    if numbers:
        fused.attribute.append(helper.make_attribute("activation_params", numbers))
    proto = model(
        [fused],
        [info("x", "b", 6, 5, 7), info("z", "b", 9, 5, 5)],
        [info("y", "b", 9, 5, 5)],
        {"w": sparse(rng, 9, 6, 3, 3), "b": normal(rng, 9)},
    )
    inside = activation in ("Relu", "Clip") and not addend
    feeds = {"x": normal(rng, 2, 6, 5, 7), "z": normal(rng, 2, 9, 5, 5)}
    session = compare(proto, feeds, layers=1, islands=0 if inside else None)
    assert session.explain()[0].name == "c"


@pytest.mark.parametrize("numbers", [{"activation": "Relu"}, {"activation": "LeakyRelu", "activation_alpha": 0.2}])
def test_fused_gemm(rng, numbers):
    fused = node("FusedGemm", ["x", "w", "b"], ["y"], domain=MICROSOFT, transB=1, alpha=0.5, beta=2.0, **numbers)
    proto = model([fused], [info("x", "b", 10)], [info("y", "b", 7)], {"w": sparse(rng, 7, 10), "b": normal(rng, 7)})
    compare(proto, {"x": normal(rng, 3, 10)}, layers=1, islands=0 if numbers["activation"] == "Relu" else None)


def test_an_unknown_activation_is_a_reason(rng):
    fused = node("FusedGemm", ["x", "w"], ["y"], domain=MICROSOFT, transB=1, activation="LeakyRelu")
    proto = model(
        [fused, node("MatMul", ["y", "v"], ["z"])],
        [info("x", "b", 10)],
        [info("z", "b", 6)],
        {"w": sparse(rng, 8, 10), "v": sparse(rng, 6, 8).T.copy()},
    )
    # LeakyRelu without its number: onnxruntime does not load that either.
    prepared = prepare(model_io.read(proto))
    draft = Draft(prepared, find_layers(prepared))
    reports = [choose(layer, draft.fusion) for layer in draft.layers]
    assert [report.kernel is None for report in reports] == [True, False]
    assert "activation 'LeakyRelu'" in reports[0].reason


def weight_constants(rng, n, k, per_channel):
    scale = rng.uniform(0.01, 0.1, n if per_channel else ()).astype(np.float32)
    return {
        "w": sparse_int8(rng, n, k).T.copy(),
        "ws": scale,
        "wz": np.zeros_like(scale, np.int8),
        "b": normal(rng, n),
    }


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("names", [("xs", "ws"), ("xs", "ws", "xz", "wz"), ("xs", "ws", "xz", "", "b")])
@pytest.mark.parametrize("x_type", [UINT8, INT8])
def test_matmul_integer_to_float_with_constant_scale(rng, per_channel, names, x_type):
    dtype = np.uint8 if x_type == UINT8 else np.int8
    proto = model(
        [node("MatMulIntegerToFloat", ["x", "w", *names], ["a"], domain=MICROSOFT), node("Relu", ["a"], ["y"])],
        [info("x", "b", 3, 12, kind=x_type)],
        [info("y", "b", 3, 7)],
        {**weight_constants(rng, 7, 12, per_channel), "xs": np.float32(0.02), "xz": np.array(9, dtype)},
    )
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    compare(proto, {"x": rng.integers(low, high, (2, 3, 12), dtype, endpoint=True)}, layers=1, islands=0)


@pytest.mark.parametrize("per_channel", [False, True])
def test_matmul_integer_to_float_behind_dynamic_quantisation(rng, per_channel):
    proto = model(
        [
            node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
            node("MatMulIntegerToFloat", ["q", "w", "s", "ws", "z", "wz", "b"], ["y"], domain=MICROSOFT),
        ],
        [info("x", "b", 12)],
        [info("y", "b", 7)],
        weight_constants(rng, 7, 12, per_channel),
    )
    compare(proto, {"x": normal(rng, 5, 12)}, layers=1)


def test_a_scale_from_elsewhere_is_a_reason(rng):
    proto = model(
        [
            node("MatMulIntegerToFloat", ["x", "w", "xs", "ws", "xz"], ["a"], domain=MICROSOFT),
            node("MatMul", ["a", "v"], ["y"]),
        ],
        [info("x", "b", 12, kind=UINT8), info("xs")],
        [info("y", "b", 5)],
        {**weight_constants(rng, 7, 12, False), "xz": np.uint8(3), "v": sparse(rng, 5, 7).T.copy()},
    )
    feeds = {"x": rng.integers(0, 256, (2, 12), np.uint8), "xs": np.array(0.1, np.float32)}
    session = compare(proto, feeds, layers=1)
    assert "the scale of x" in session.explain()[0].reason


@pytest.mark.parametrize("per_channel", [False, True])
def test_dynamic_quantize_matmul(rng, per_channel):
    """Two layers share one quantisation of x; the integers are onnxruntime's, so are the floats."""
    constants = weight_constants(rng, 7, 12, per_channel)
    proto = model(
        [
            node("DynamicQuantizeMatMul", ["x", "w", "ws", "wz", "b"], ["a"], domain=MICROSOFT),
            node("DynamicQuantizeMatMul", ["x", "w", "ws"], ["c"], domain=MICROSOFT),
            node("Relu", ["c"], ["d"]),
            node("DynamicQuantizeMatMul", ["d", "v", "vs", "", "e"], ["y"], domain=MICROSOFT),
        ],
        [info("x", "b", 3, 12)],
        [info("a", "b", 3, 7), info("y", "b", 3, 5)],
        {
            **constants,
            "v": sparse_int8(rng, 5, 7).T.copy(),
            "vs": np.float32(0.02),
            "e": normal(rng, 5),
        },
    )
    feeds = {"x": normal(rng, 2, 3, 12)}
    session = compare(proto, feeds, layers=3)
    assert [report.op_type for report in session.explain()] == ["DynamicQuantizeMatMul"] * 3
    read = [step.x for step in session.plan.steps if isinstance(step, SparseStep)]
    assert sorted(read) == [*["d/sparse_rt/quantised"], *["x/sparse_rt/quantised"] * 2]
    checks = srt.verify(proto, feeds=feeds).layers
    assert [check.status for check in checks] == ["equal"] * 3


def test_dense_dynamic_quantize_matmul_stays_as_it_is(rng):
    constants = weight_constants(rng, 7, 12, False)
    constants["w"] = rng.integers(-127, 128, (12, 7)).astype(np.int8)
    proto = model(
        [
            node("DynamicQuantizeMatMul", ["x", "w", "ws"], ["a"], domain=MICROSOFT),
            node("MatMul", ["a", "v"], ["y"]),
        ],
        [info("x", "b", 12)],
        [info("y", "b", 5)],
        {**constants, "v": sparse(rng, 5, 7).T.copy()},
    )
    session = compare(proto, {"x": normal(rng, 2, 12)}, layers=1)
    assert "not 2:4" in session.explain()[0].reason


def test_attention_runs_in_onnxruntime_beside_sparse_layers(rng):
    proto = model(
        [
            node("Attention", ["x", "w", "b"], ["a"], domain=MICROSOFT, num_heads=2),
            node("MatMul", ["a", "v"], ["y"]),
        ],
        [info("x", "b", 3, 8)],
        [info("y", "b", 3, 5)],
        {"w": sparse(rng, 24, 8).T.copy(), "b": normal(rng, 24), "v": sparse(rng, 5, 8).T.copy()},
    )
    session = compare(proto, {"x": normal(rng, 2, 3, 8)}, layers=1)
    assert "Attention runs in onnxruntime" in session.explain()[0].reason


def optimised(proto, folder):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return onnx.load(options.optimized_model_filepath)


@pytest.mark.parametrize("name", ["resnet", "bert", "bert dynamic"])
def test_whole_models_as_onnxruntime_saves_them(name, tmp_path):
    """As many layers run sparse as before, and the outputs are the same."""
    if name == "resnet":
        proto = prune(resnet50.resnet50(size=32, blocks=(1, 1), widths=(16, 32), classes=10))
        (feeds,) = resnet50.calibration_feeds(1, 32, 1)
    else:
        proto = prune(bert.bert(layers=1, hidden=32, heads=4, vocabulary=100, positions=64))
        (feeds,) = bert.calibration_feeds(1, 16, 1, 100)
    if "dynamic" in name:
        logging.disable(logging.WARNING)
        proto = quantise_dynamic(proto, per_channel=True)
        logging.disable(logging.NOTSET)
    saved = optimised(proto, tmp_path)
    operators = {item.op_type for item in saved.graph.node if item.domain == MICROSOFT}
    expected = {"resnet": "FusedConv", "bert": "BiasGelu", "bert dynamic": "DynamicQuantizeMatMul"}
    assert expected[name] in operators
    compare(saved, feeds, layers=8 if name == "resnet" else 6, tolerance=1e-4)


def test_initializers_of_a_saved_model_are_named_once(rng, tmp_path):
    """A bound that unfusing adds gets a name that nothing else has."""
    fused = node("FusedConv", ["x", "w"], ["y"], name="c", domain=MICROSOFT, activation="Clip")
    fused.attribute.append(helper.make_attribute("activation_params", [0.0, 0.5]))
    proto = model([fused], [info("x", "b", 6, 3, 3)], [info("y", "b", 5, 3, 3)], {"w": sparse(rng, 5, 6, 1, 1)})
    proto.graph.initializer.append(numpy_helper.from_array(np.float32(3), "c/Clip/bound"))
    x = normal(rng, 1, 6, 3, 3)
    compare(proto, {"x": x}, layers=1, islands=0)
    assert stock(proto, {"x": x})[0].max() <= 0.5
