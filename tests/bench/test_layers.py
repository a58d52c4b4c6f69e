"""The layer table: profiles of two engines, matched by the names of nodes."""

import onnx_ir as ir
import pytest

from sparse_rt.bench.layers import OTHERS, compare_layers
from sparse_rt.bench.profile import NodeTime
from tests.bench.test_profile import MODEL


def test_layers_side_by_side():
    dense = [
        NodeTime("fused fc1", "FusedGemm", "", 3.0),
        NodeTime("scores", "MatMul", "", 1.0),
        NodeTime("last", "Softmax", "", 2.0),
    ]
    sparse = [
        NodeTime("fc1", "Gemm", "kernel", 1.5),
        NodeTime("fc10", "Gemm", "", 0.5),
        NodeTime("scores", "Attention", "Attention", 2.0),
    ]
    first, second, others = compare_layers(ir.from_onnx_text(MODEL), dense, sparse)
    assert (first.name, first.kernel, first.dense, first.sparse, first.ratio) == ("fc1", "kernel", 3.0, 1.5, 2.0)
    assert first.share == pytest.approx(1.5 / 4)
    assert (second.name, second.kernel, second.dense, second.ratio) == ("fc10", "onnxruntime", None, None)
    assert second.note
    assert (others.name, others.dense, others.sparse) == (OTHERS, 3.0, 2.0)
    assert first.share + second.share + others.share == pytest.approx(1)
