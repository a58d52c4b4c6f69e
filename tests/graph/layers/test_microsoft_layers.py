"""onnxruntime's own operators as layers: normal form, compressed form, reasons."""

import numpy as np
import pytest
from onnx import helper

from sparse_rt.graph import model_io
from sparse_rt.graph.layers.find import find_layers
from sparse_rt.graph.passes.compress import compress, compress_model
from sparse_rt.prune import prune
from tests.graph import models
from tests.graph.passes.test_compress import compress_all

MICROSOFT = "com.microsoft"
N, K = 10, 12


def microsoft(op_type, names, constants, x=("batch", K), y=("batch", N), x_dtype=np.float32, **attributes):
    node = helper.make_node(op_type, names, ["y"], name="layer", domain=MICROSOFT, **attributes)
    inputs = [models.info("x", list(x), x_dtype)]
    constants = {name: np.asarray(value) for name, value in constants.items()}
    return models.model([node], inputs, [models.info("y", list(y))], constants, domains=[MICROSOFT])


def fused_matmul(weight, **attributes):
    operand = weight if attributes.get("transB") else weight.T.copy()
    x = ("batch", K, 3) if attributes.get("transA") else ("batch", 3, K)
    return microsoft("FusedMatMul", ["x", "w"], {"w": operand}, x, ("batch", 3, N), **attributes)


def parameters(per_channel):
    scale = np.linspace(0.01, 0.02, N).astype(np.float32) if per_channel else np.float32(0.01)
    return {"ws": scale, "wz": np.zeros_like(scale, np.int8), "b": np.linspace(-1, 1, N).astype(np.float32)}


def to_float(weight, per_channel, names=("x", "w", "xs", "ws", "xz", "wz", "b")):
    constants = {"w": weight.T.copy(), "xs": np.float32(0.02), "xz": np.uint8(7), **parameters(per_channel)}
    return microsoft("MatMulIntegerToFloat", list(names), constants, x_dtype=np.uint8)


def dynamic(weight, per_channel, names=("x", "w", "ws", "wz", "b")):
    return microsoft("DynamicQuantizeMatMul", list(names), {"w": weight.T.copy(), **parameters(per_channel)})


@pytest.mark.parametrize("trans_b", [0, 1])
@pytest.mark.parametrize("alpha", [1.0, 0.25])
def test_fused_matmul(trans_b, alpha, tmp_path):
    dense = fused_matmul(models.two_four(0, (N, K)), transB=trans_b, alpha=alpha)
    (layer,) = find_layers(model_io.read(dense))
    assert (layer.op_type, layer.kind, layer.form, layer.shape) == ("FusedMatMul", "matmul", "float", (N, K))
    assert (layer.attributes["alpha"], layer.reason) == (alpha, None)
    compress_all(dense, tmp_path, "FusedMatMul_transB" if trans_b else "FusedMatMul")


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("names", [("x", "w", "xs", "ws"), ("x", "w", "xs", "ws", "xz", "wz", "b")])
def test_matmul_integer_to_float(per_channel, names, tmp_path):
    compress_all(to_float(models.two_four(0, (N, K), np.int8), per_channel, names), tmp_path, "MatMulIntegerToFloat")


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("names", [("x", "w", "ws"), ("x", "w", "ws", "", "b"), ("x", "w", "ws", "wz", "b")])
def test_dynamic_quantize_matmul(per_channel, names, tmp_path):
    dense = dynamic(models.two_four(0, (N, K), np.int8), per_channel, names)
    (layer,) = find_layers(model_io.read(dense))
    assert (layer.form, layer.x.name, layer.x_scale, layer.dtype) == ("dynamic", "x", None, np.int8)
    compress_all(dense, tmp_path, "DynamicQuantizeMatMul")


def fused_conv(weight, **attributes):
    x, y = ["batch", weight.shape[1], 6, 7], ["batch", weight.shape[0], 4, 5]
    return microsoft("FusedConv", ["x", "w"], {"w": weight}, x, y, **attributes)


def fused_gemm(weight):
    return microsoft("FusedGemm", ["x", "w"], {"w": weight}, transB=1, activation="Relu")


@pytest.mark.parametrize("trans", ["transA", "transBatchA", "transBatchB"])
def test_fused_matmul_with_a_transposed_activation_stays(trans):
    (layer,) = find_layers(model_io.read(fused_matmul(models.two_four(0, (N, K)), **{trans: 1})))
    assert layer.reason == f"{trans} is set"


@pytest.mark.parametrize(
    "dense",
    [fused_conv(models.two_four(0, (8, 6, 3, 3)), activation="Relu"), fused_gemm(models.two_four(0, (N, K)))],
    ids=["conv", "gemm"],
)
def test_an_activation_inside_is_not_compressed(dense):
    (layer,) = find_layers(model_io.read(dense))
    assert (layer.reason, layer.attributes["activation"]) == (None, "Relu")
    (report,) = compress_model(model_io.read(dense)).layers
    assert "from before onnxruntime optimised it" in report.reason
    assert compress(dense).graph.node[0].op_type == layer.op_type


def test_weights_inside_them_can_be_pruned():
    weight = np.random.default_rng(0).standard_normal((8, 6, 3, 3)).astype(np.float32)
    (layer,) = find_layers(model_io.read(prune(fused_conv(weight, activation="Tanh"))))
    assert layer.reason is None


def test_weights_of_attention_are_named_with_a_reason():
    constants = {"w": np.ones((8, 24), np.float32), "b": np.zeros(24, np.float32)}
    dense = microsoft("Attention", ["x", "w", "b"], constants, ("batch", 3, 8), ("batch", 3, 8), num_heads=2)
    (layer,) = find_layers(model_io.read(dense))
    assert (layer.op_type, layer.shape, layer.eligible) == ("Attention", (), False)
    assert layer.reason.startswith("com.microsoft Attention runs in onnxruntime: ")
