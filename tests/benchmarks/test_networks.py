"""The whole-model benchmark: its arithmetic, its table, and small networks of its kind."""

import logging

import onnx_ir as ir
import pytest

from benchmarks.comparison import Comparison
from benchmarks.limit import share_of, speed_limit
from benchmarks.models import dlrm, mobilenet_v2
from benchmarks.models.quantise import quantise_static
from benchmarks.networks import result, table_row
from sparse_rt.bench.profile import NodeTime, layers_of_nodes
from sparse_rt.graph.layers.find import find_layers
from sparse_rt.prune import prune

COMPARISON = Comparison(
    {"onnxruntime": [[4.0, 4.0]] * 3, "openvino": [[3.0]] * 3, "sparse_rt": [[2.0]] * 3}, {"sparse_rt": "1"}
)
FRESH = {
    "onnxruntime": [{"start": start, "peak": 100, "imported": 50} for start in (0.1, 0.2, 9)],
    "sparse_rt": [{"start": 0.5, "peak": 150, "imported": 90}],
}


@pytest.mark.parametrize(("share", "limit"), [(0, 1), (1, 1.65), (0.5, 1 / (0.5 + 0.5 / 1.65))])
def test_limit(share, limit):
    assert speed_limit(share, 1.65) == pytest.approx(limit)


def test_best_dense_engine_and_ratios():
    assert COMPARISON.best() == "openvino"
    assert COMPARISON.medians() == {"onnxruntime": 4, "openvino": 3, "sparse_rt": 2}
    assert {name: ratio.value for name, ratio in COMPARISON.ratios().items()} == {"onnxruntime": 2, "openvino": 1.5}


@pytest.mark.parametrize(("ours", "cells"), [(2.0, ["2.00", "1.50", "1.50 [1.50, 1.50]"]), (6.0, ["0.67", "0.50"])])
def test_table_row(ours, cells):
    comparison = Comparison({**COMPARISON.turns, "sparse_rt": [[ours]] * 3}, {})
    row = {"model": "net", "dtype": "int8", "threads": 2, **result(comparison, 1.0, 1.65, FRESH)}
    found = table_row(row, ["onnxruntime", "openvino"])
    assert found[:3] == ["net", "int8", "2"]
    assert found[3 : 3 + len(cells)] == cells
    assert found[6:] == ["1.65", "1.50", "2.50", "" if ours < 3 else "loses"]


def test_share_counts_a_fused_layer_by_whatever_node_names_it():
    model = ir.from_onnx_text(
        """<ir_version: 8, opset_import: ["" : 17]>
        net (float[1, 4] x) => (float[1, 4] y) <float[4, 4] w1, float[4, 4] w2> {
            [fc1] h = Gemm(x, w1)
            [fc1_relu] r = Relu(h)
            [fc10] g = Gemm(r, w2)
            [scores] y = MatMul(g, r)
        }"""
    )
    holds = {"fc1": True, "fc10": False, "scores": False}
    owners = layers_of_nodes(model, holds)
    assert owners == {"fc1": "fc1", "fc1_relu": "fc1", "fc10": "fc10", "scores": "scores"}
    nodes = [
        NodeTime("fused fc1", "FusedGemm", "", 3.0),
        NodeTime("fc1_relu_nchwc", "Conv", "", 2.0),
        NodeTime("fc10_token_7", "QGemm", "", 1.0),
        NodeTime("scores/Scale/", "FusedMatMul", "", 1.0),
        NodeTime("reorder", "ReorderOutput", "", 3.0),
    ]
    assert share_of(nodes, owners, holds) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="'strange'"):
        share_of([NodeTime("strange", "Gemm", "", 1.0)], owners, holds)


@pytest.mark.parametrize("quantised", [False, True])
def test_layers_that_hold_the_pattern(quantised):
    stages = ((1, 16, 1, 1), (6, 24, 2, 2))
    networks = [
        (mobilenet_v2.mobilenet_v2(size=32, classes=10, stages=stages), mobilenet_v2.calibration_feeds(1, 32)),
        (dlrm.top_mlp(widths=(16, 32, 8, 1)), dlrm.calibration_feeds(1, 4, 16)),
    ]
    logging.disable(logging.WARNING)  # onnxruntime.quantization advises pre-processing on the root logger
    for proto, feeds in networks:
        pruned = prune(proto)
        model = quantise_static(pruned, feeds) if quantised else pruned
        dense = [layer.name for layer in find_layers(ir.from_proto(model)) if layer.reason]
        assert all(name == "stem" or name.endswith("_depthwise") for name in dense)
        assert len(dense) == (4 if proto.graph.name == "mobilenet_v2" else 0)
    logging.disable(logging.NOTSET)
