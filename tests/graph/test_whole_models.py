"""ResNet and BERT shapes, float and quantised by onnxruntime: prune, compress, and compare in stock onnxruntime."""

import logging
from collections import Counter

import numpy as np
import onnx
import pytest
from onnxruntime.quantization import QuantFormat

from benchmarks.models import bert, mobilenet_v2, resnet50
from benchmarks.models.quantise import quantise_dynamic, quantise_static
from sparse_rt.graph import model_io
from sparse_rt.graph.neighbours.record import ALONE
from sparse_rt.graph.operators import COMPRESSED
from sparse_rt.graph.passes.compress import compress, compress_model
from sparse_rt.prune import prune
from tests.graph import models

SEQUENCE, VOCABULARY, SIZE = 16, 100, 32


@pytest.fixture(scope="module", autouse=True)
def quiet():
    logging.disable(logging.WARNING)  # onnxruntime.quantization advises pre-processing on the root logger
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="module")
def small_models():
    resnet = resnet50.resnet50(size=SIZE, blocks=(1, 1), widths=(16, 32), classes=10)
    mobile = mobilenet_v2.mobilenet_v2(size=SIZE, stages=((1, 16, 1, 1), (6, 24, 2, 2)), classes=10)
    encoder = bert.bert(layers=1, hidden=32, heads=4, vocabulary=VOCABULARY, positions=64)
    return {
        "resnet": (prune(resnet), resnet50.calibration_feeds(1, SIZE, 2)),
        "mobilenet": (prune(mobile), mobilenet_v2.calibration_feeds(1, SIZE, 2)),
        "bert": (prune(encoder), bert.calibration_feeds(1, SEQUENCE, 2, VOCABULARY)),
    }


def quantised(proto, feeds, how):
    if how == "float32":
        return proto
    if how.startswith("dynamic"):
        return quantise_dynamic(proto, per_channel="channel" in how)
    quant_format = QuantFormat.QOperator if "operator" in how else QuantFormat.QDQ
    return quantise_static(proto, feeds, per_channel="channel" in how, quant_format=quant_format)


@pytest.mark.parametrize("name", ["resnet", "bert"])
@pytest.mark.parametrize(
    "how",
    ["float32", "dynamic", "dynamic channel", "qdq", "qdq channel", "operator", "operator channel"],
)
def test_same_operators_and_outputs(name, how, small_models, tmp_path):
    proto, feeds = small_models[name]
    dense = quantised(proto, feeds, how)
    result = compress_model(model_io.read(dense))
    compressed = model_io.to_proto(result.model)
    onnx.checker.check_model(compressed, full_check=True)
    models.assert_same_in_onnxruntime(dense, compressed, tmp_path, feeds[0])
    reasons = [layer.reason for layer in result.layers if layer.reason]
    expected = "3 input channels, 2:4 needs more than 4" if name == "resnet" else "the weight is not constant"
    assert set(reasons) == {expected}
    assert len(reasons) == {"resnet": 1, "bert": 2}[name]
    for layer in result.layers:
        if layer.reason is None:
            assert layer.compressed_bytes <= (0.532 if how == "float32" else 0.625) * layer.dense_bytes


LEVELS = ("ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL")


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("how", ["float32", "qdq", "qdq channel"])
@pytest.mark.parametrize("name", ["resnet", "mobilenet", "bert"])
def test_neighbours_are_what_was_there_at_every_level(name, how, level, small_models, tmp_path):
    proto, feeds = small_models[name]
    dense = quantised(proto, feeds, how)
    compressed = compress(dense)
    layers = [COMPRESSED[node.op_type] for node in compressed.graph.node if node.domain == "sparse_rt"]
    held = [form.neighbours for form in layers]
    if how != "float32":
        assert all(each.x and each.y for each in held)
        assert all(form.neighbours.bias == ("bias" in form.dense.inputs) for form in layers)
    else:
        assert any(each != ALONE for each in held)
    # Unoptimised, a weight is no constant, and float products may take another way; not so without neighbours.
    others = {"dense": dense, "alone": model_io.to_proto(model_io.read(compressed))}
    other = others["alone" if level == "ORT_DISABLE_ALL" else "dense"]
    results, counts = [], []
    for each in (other, compressed):
        results.append(models.run(each, feeds[0], tmp_path / "optimised.onnx", level))
        counts.append(Counter(node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node))
    for reference, y in zip(*results, strict=True):
        np.testing.assert_array_equal(y, reference)
    assert {**counts[0], "DequantizeLinear": 0} == {**counts[1], "DequantizeLinear": 0}
    # Layers that read one DequantizeLinear have one each, which only optimisation finds to be the same.
    dequantised = [count["DequantizeLinear"] for count in counts]
    assert dequantised[0] <= dequantised[1] if level == "ORT_DISABLE_ALL" else dequantised[0] == dequantised[1]
