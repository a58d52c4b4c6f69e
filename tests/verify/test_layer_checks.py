"""Every sparse layer on its own: a change in one is found there."""

import numpy as np
import pytest
from onnx import numpy_helper

import sparse_rt as srt
from tests.models.onnx_models import info, model, node, normal, sparse, sparse_int8
from tests.verify.models import mutated, quantised, two_layers


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


def test_zero_times_infinity_may_be_zero(rng):
    proto = two_layers(rng)
    x = normal(rng, 2, 24)
    x[0, 3] = np.inf
    report = srt.verify(proto, feeds={"x": x})
    assert report.layers[0].status == "equal", report.layers[0]
    assert "0 x inf" in report.layers[0].note


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
