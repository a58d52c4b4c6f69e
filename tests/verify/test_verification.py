"""verify: equal, different with the right layer named, and cannot say."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import sparse_rt as srt
from sparse_rt.errors import FeedError
from tests.models.onnx_models import INT32, UINT8, info, model, node, normal, sparse, sparse_int8
from tests.verify.models import (
    convolutions,
    dynamic_chain,
    dynamic_quantised,
    left_product,
    mutated,
    quantised,
    two_layers,
)


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


def test_the_noise_of_the_reference_is_the_yardstick_of_quantised_outputs(rng):
    report = srt.verify(srt.compress(dynamic_quantised(rng)), batch=2)
    rules = {check.rule for check in report.outputs}
    assert rules <= {"rms", "exact"}
    assert all(2**-8 <= check.tolerance <= 2**-3 for check in report.outputs if check.rule == "rms")


@pytest.mark.parametrize(
    "feeds",
    [
        [1],
        {},
        {1: np.zeros((1, 24), np.float32)},
        {"x": None},
        {"x": 1.0},
        {"x": np.array(["a"])},
        {"x": np.array([{}], object)},
        {"x": np.zeros((1, 24))},
        {"x": np.zeros((1, 23), np.float32)},
        {"x": np.zeros(24, np.float32)},
        {"x": np.zeros((1, 24), np.float32), "more": np.zeros(1, np.float32)},
    ],
)
def test_feeds_that_do_not_fit(rng, feeds):
    with pytest.raises(FeedError):
        srt.verify(two_layers(rng), None, feeds)


@pytest.mark.parametrize(
    "change", [lambda x: x.astype(">f4"), np.asfortranarray, lambda x: x.tolist(), lambda x: np.repeat(x, 2, 1)[:, ::2]]
)
def test_feeds_in_any_form_are_the_same_for_both(rng, change):
    proto = two_layers(rng)
    report = srt.verify(srt.compress(proto), proto, {"x": change(normal(rng, 3, 24))})
    assert report.equal
    assert all(layer.comparison is not None for layer in report.layers)


@pytest.mark.parametrize(("value", "code"), [(np.nan, 2), (np.inf, 2), (1e-42, 0), (-0.0, 0), (None, 2), (1e30, 0)])
def test_extreme_feeds(rng, value, code):
    x = np.zeros((0, 24), np.float32) if value is None else np.full((2, 24), value, np.float32)
    report = srt.verify(two_layers(rng), None, {"x": x})
    assert report.exit_code == code, report.reason
    assert (code == 0) == report.reason.startswith("equal")


def test_random_numbers_and_chaos_cannot_be_told(rng):
    """Noise of each run; and a function that makes everything of the last bit."""
    for nodes in (
        [node("RandomNormalLike", ["a"], ["r"]), node("Add", ["a", "r"], ["y"])],
        [node("Mul", ["a", "large"], ["b"]), node("Sin", ["b"], ["y"])],
    ):
        proto = model(
            [node("MatMul", ["x", "w"], ["a"], name="layer"), *nodes],
            [info("x", 64, 16)],
            [info("y", 64, 8)],
            {"w": sparse(rng, 8, 16).T.copy(), "large": np.float32(1e7)},
        )
        report = srt.verify(proto)
        assert report.exit_code == 2
        assert "two executions of the reference itself differ" in report.reason
        assert report.layers[0].status == "equal"
