"""ResNet and BERT shapes, float and quantised by onnxruntime: prune, compress, and compare in stock onnxruntime."""

import logging

import onnx
import pytest
from onnxruntime.quantization import QuantFormat

from benchmarks.models import bert, resnet50
from benchmarks.models.quantise import quantise_dynamic, quantise_static
from sparse_rt.graph import model_io
from sparse_rt.graph.passes.compress import compress_model
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
    encoder = bert.bert(layers=1, hidden=32, heads=4, vocabulary=VOCABULARY, positions=64)
    return {
        "resnet": (prune(resnet), resnet50.calibration_feeds(1, SIZE, 2)),
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
