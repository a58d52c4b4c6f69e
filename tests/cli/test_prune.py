"""``prune``, and what follows it."""

import json

import numpy as np
import onnx
import pytest

from sparse_rt import sparsity
from sparse_rt.graph.layers.find import find_layers
from sparse_rt.graph.model_io import read
from sparse_rt.sparsity.nm import TWO_FOUR
from tests.models.onnx_models import stock


def test_prune_then_compress_then_run_anywhere(cli, files, tmp_path, images):
    pruned, compressed, report = tmp_path / "p.onnx", tmp_path / "c.onnx", tmp_path / "r.json"
    result = cli("prune", files["dense"], "-o", pruned, "--pattern", "2:4", "--json", report)
    assert result.exit_code == 0
    assert "4 of 5 layers hold 2:4" in result.stdout
    document = json.loads(report.read_text())
    assert set(document) == {"model", "output", "pattern", "layers"}
    weights = [layer.dense_weight() for layer in find_layers(read(pruned)) if layer.reason is None]
    assert [sparsity.holds(weight, TWO_FOUR) for weight in weights] == [True] * 4

    result = cli("compress", pruned, "-o", compressed, "--json", report)
    assert result.exit_code == 0
    assert "dense: 1 input channels" in result.stdout
    document = json.loads(report.read_text())
    assert set(document) == {"model", "output", "bytes_before", "bytes_after", "layers"}
    assert document["bytes_after"] == compressed.stat().st_size < 0.56 * document["bytes_before"]
    assert {layer["pattern"] for layer in document["layers"]} == {"2:4", None}
    feeds = {"image": images[:8]}
    np.testing.assert_array_equal(stock(onnx.load(compressed), feeds), stock(onnx.load(pruned), feeds))


@pytest.mark.parametrize(
    "options",
    [
        ("--pattern", "1:4"),
        ("--pattern", "many"),
        ("--density", "0.3"),
        ("--method", "magic"),
        ("--calib", "x.npz"),
        ("--config", "x.yaml"),
    ],
)
def test_prune_refuses_what_it_would_have_to_ignore(cli, files, tmp_path, options):
    result = cli("prune", files["dense"], "-o", tmp_path / "p.onnx", *options)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert not (tmp_path / "p.onnx").exists()
