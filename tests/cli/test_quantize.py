"""``quantize``."""

import numpy as np
import onnx
import pytest

from sparse_rt.graph.layers.find import find_layers
from sparse_rt.graph.model_io import read
from tests.models.onnx_models import stock


def test_quantize_keeps_the_pattern(cli, files, tmp_path, images):
    calib, quantised = tmp_path / "calib.npz", tmp_path / "q.onnx"
    np.savez(calib, image=images[:50], unused=np.zeros(3))
    result = cli("quantize", files["pruned"], "-o", quantised, "--calib", calib, "--exclude", "fc2")
    assert result.exit_code == 0, result.output
    assert "50 samples" in result.stdout
    layers = {layer.name: layer for layer in find_layers(read(quantised))}
    assert [layers[name].dtype for name in ("conv2", "conv3", "fc1", "fc2")] == [np.int8] * 3 + [np.float32]
    assert all(layers[name].reason is None for name in ("conv2", "conv3", "fc1"))
    float_logits, logits = (stock(onnx.load(path), {"image": images})[0] for path in (files["pruned"], quantised))
    assert np.mean(float_logits.argmax(1) == logits.argmax(1)) > 0.98
    assert cli("verify", quantised).exit_code == 0


@pytest.mark.parametrize(
    ("arrays", "fact"),
    [
        ({"other": np.zeros((4, 1, 8, 8), np.float32)}, "'image'"),
        ({"image": np.zeros((0, 1, 8, 8), np.float32)}, "got 0"),
        ({"image": np.zeros((4, 3, 8, 8), np.float32)}, "onnxruntime"),
        ({"image": np.zeros((4, 1, 8, 8), np.float64)}, "onnxruntime"),
    ],
)
def test_quantize_with_wrong_samples(cli, files, tmp_path, arrays, fact):
    np.savez(tmp_path / "calib.npz", **arrays)
    result = cli("quantize", files["pruned"], "-o", tmp_path / "q.onnx", "--calib", tmp_path / "calib.npz")
    assert result.exit_code == 2
    assert fact in result.stderr
    assert not (tmp_path / "q.onnx").exists()
