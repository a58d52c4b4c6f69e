"""Graphs in the forms that PyTorch exports: written by hand, and by PyTorch itself where it is installed."""

import logging
import warnings

import numpy as np
import onnx
import pytest

from tests import naive
from tests.models.onnx_models import compare, info, model, node, normal, sparse


@pytest.fixture
def rng():
    return np.random.default_rng(41)


def test_linear_of_any_rank(rng):
    """The weight is (n, k): Transpose -> MatMul -> Add for x of three axes, Gemm with transB for two."""
    proto = model(
        [
            node("Transpose", ["fc1.weight"], ["val_0"], perm=[1, 0]),
            node("MatMul", ["x", "val_0"], ["val_1"], name="node_linear"),
            node("Add", ["val_1", "fc1.bias"], ["linear"]),
            node("Gelu", ["linear"], ["gelu"], approximate="none"),
            node("Reshape", ["gelu", "rows"], ["flat"]),
            node("Gemm", ["flat", "fc2.weight", "fc2.bias"], ["y"], name="node_linear_1", transB=1),
        ],
        [info("x", "batch", 3, 12)],
        [info("y", "rows_", 7)],
        {
            "fc1.weight": sparse(rng, 20, 12),
            "fc1.bias": normal(rng, 20),
            "fc2.weight": sparse(rng, 7, 20),
            "fc2.bias": normal(rng, 7),
            "rows": np.array([-1, 20], np.int64),
        },
        opset=20,
        ir_version=10,
    )
    compare(proto, {"x": normal(rng, 2, 3, 12)}, layers=2)


def test_unfolded_batch_norm_with_bounds_behind_casts(rng):
    """The TorchScript exporter without constant folding: Conv -> BatchNormalization -> Clip(Cast(Constant))."""
    zero, six = (onnx.helper.make_tensor("v", 7, [], [value]) for value in (0, 6))
    proto = model(
        [
            node("Conv", ["x", "c.weight"], ["/c/Conv_output_0"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], group=1),
            node("BatchNormalization", ["/c/Conv_output_0", "g", "b", "m", "v"], ["/b_output_0"], momentum=0.9),
            node("Constant", [], ["/Constant_output_0"], value=zero),
            node("Cast", ["/Constant_output_0"], ["/Cast_output_0"], to=1),
            node("Constant", [], ["/Constant_1_output_0"], value=six),
            node("Cast", ["/Constant_1_output_0"], ["/Cast_1_output_0"], to=1),
            node("Clip", ["/b_output_0", "/Cast_output_0", "/Cast_1_output_0"], ["y"]),
        ],
        [info("x", "b", 6, 5, 4)],
        [info("y", "b", 9, 5, 4)],
        {
            "c.weight": sparse(rng, 9, 6, 3, 3),
            "g": normal(rng, 9),
            "b": normal(rng, 9),
            "m": normal(rng, 9),
            "v": rng.uniform(0.5, 2, 9).astype(np.float32),
        },
        opset=20,
        ir_version=9,
    )
    compare(proto, {"x": normal(rng, 2, 6, 5, 4)}, layers=1, islands=0)


def test_padding_whose_amounts_the_graph_computes(rng):
    """The TorchScript exporter's F.pad: ConstantOfShape, Concat, Reshape, Slice, Transpose, Cast of constants."""
    proto = model(
        [
            node("Conv", ["x", "v"], ["c"]),
            node("ConstantOfShape", ["four"], ["zeros"], value=onnx.helper.make_tensor("v", 7, [1], [0])),
            node("Concat", ["two", "zeros"], ["all"], axis=0),
            node("Reshape", ["all", "pairs"], ["table"]),
            node("Slice", ["table", "last", "first", "axis", "back"], ["turned"]),
            node("Transpose", ["turned"], ["columns"], perm=[1, 0]),
            node("Reshape", ["columns", "flat"], ["amounts"]),
            node("Cast", ["amounts"], ["pads"], to=7),
            node("Pad", ["c", "pads"], ["p"], mode="constant"),
            node("Conv", ["p", "w"], ["y"], name="/c3/Conv"),
        ],
        [info("x", "b", 5, 4, 6)],
        [info("y", "b", 9, 4, "w_")],
        {
            "v": sparse(rng, 7, 5, 1, 1),
            "w": sparse(rng, 9, 7, 3, 3),
            "four": np.array([4], np.int64),
            "two": np.array([1, 2, 1, 1], np.int64),
            "pairs": np.array([-1, 2], np.int64),
            "last": np.array([-1], np.int64),
            "first": np.array([-(2**62)], np.int64),
            "axis": np.array([0], np.int64),
            "back": np.array([-1], np.int64),
            "flat": np.array([-1], np.int64),
        },
    )
    compare(proto, {"x": normal(rng, 2, 5, 4, 6)}, layers=2, islands=0)


def pruned(torch, module):
    """The module in evaluation mode, its weights 2:4 along the input channels, its statistics random."""
    for part in module.modules():
        if isinstance(part, torch.nn.modules.batchnorm._BatchNorm):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
            torch.nn.init.normal_(part.weight)
        weights = [getattr(part, name, None) for name in ("weight", "in_proj_weight")]
        for weight in weights:
            if weight is None or weight.ndim < 2 or weight.shape[1] <= 4:
                continue
            turned = isinstance(part, torch.nn.ConvTranspose2d)
            array = weight.detach().numpy()
            mask = naive.prune_2_4(array.swapaxes(0, 1) if turned else array) != 0
            weight.data *= torch.from_numpy((mask.swapaxes(0, 1) if turned else mask).astype(np.float32))
    return module.eval()


def modules(torch):
    nn = torch.nn
    convolutions = [nn.Conv2d(6, 9, 3, padding=1, bias=False), nn.BatchNorm2d(9), nn.ReLU6(), nn.ZeroPad2d(1)]
    convolutions += [nn.Conv2d(9, 10, 3, stride=2), nn.BatchNorm2d(10), nn.SiLU(), nn.ConvTranspose2d(10, 7, 2)]
    convolutions += [nn.BatchNorm2d(7), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(7, 11)]
    yield "cnn", nn.Sequential(*convolutions, nn.BatchNorm1d(11), nn.ReLU(), nn.Linear(11, 5)), (2, 6, 7, 8), 5
    yield "mlp", nn.Sequential(nn.Linear(12, 20), nn.GELU(), nn.Linear(20, 7, bias=False)), (2, 3, 12), 2
    # Four of the six products: the two of the attention have no weight.
    yield "encoder", nn.Sequential(nn.TransformerEncoderLayer(16, 2, 24, batch_first=True)), (2, 5, 16), 4


@pytest.mark.parametrize("exporter", ["dynamo", "script"])
def test_exporters_of_torch(exporter, tmp_path):
    """The new exporter as it is by default, the old one without constant folding, which leaves the most to us."""
    torch = pytest.importorskip("torch")
    how = {"dynamo": True, "verbose": False}
    if exporter == "script":
        how = {"dynamo": False, "do_constant_folding": False, "dynamic_axes": {"x": {0: "batch"}}}
    logging.disable(logging.WARNING)
    for name, module, shape, layers in modules(torch):
        path = str(tmp_path / f"{name}.onnx")
        example = (torch.randn(shape),)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(pruned(torch, module), example, path, input_names=["x"], output_names=["y"], **how)
        x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        compare(path, {"x": x}, layers=layers)
    logging.disable(logging.NOTSET)
