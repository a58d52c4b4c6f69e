"""ResNet-50 v1.5 (He et al., 2015; stride in the 3x3 convolution) with batch normalisation folded into the weights."""

import numpy as np
import onnx
from onnx import TensorProto

from benchmarks.models.graph_builder import Dimension, GraphBuilder

BLOCKS = (3, 4, 6, 3)
WIDTHS = (64, 128, 256, 512)
EXPANSION = 4


def resnet50(
    *,
    batch: Dimension = "batch",
    size: Dimension = 224,
    classes: int = 1000,
    blocks: tuple[int, ...] = BLOCKS,
    widths: tuple[int, ...] = WIDTHS,
    seed: int = 0,
) -> onnx.ModelProto:
    """Return a float32 ResNet: input ``image`` (batch, 3, size, size), output ``logits`` (batch, classes).

    Parameters
    ----------
    batch, size
        A number, or a name for a dynamic dimension.
    classes
        Rows of the last layer.
    blocks, widths
        Bottleneck blocks a stage, and the width of their 3x3 convolution. Fewer and narrower ones make a small model
        of the same form; the stem is always 64 channels wide.
    seed
        Of the random weights.
    """
    build = GraphBuilder(seed)
    x = _conv(build, "stem", "image", 3, 64, kernel=7, stride=2)
    x = build.node("Relu", [x], "stem_relu")
    x = build.node("MaxPool", [x], "stem_pool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    channels = 64
    for stage, (count, width) in enumerate(zip(blocks, widths, strict=True), start=1):
        for block in range(count):
            stride = 2 if block == 0 and stage > 1 else 1
            x = _bottleneck(build, f"stage{stage}_block{block}", x, channels, width=width, stride=stride)
            channels = width * EXPANSION
    x = build.node("GlobalAveragePool", [x], "pool")
    x = build.node("Flatten", [x], "features", axis=1)
    weight = build.weight("fc_weight", (classes, channels), channels)
    build.node("Gemm", [x, weight, build.bias("fc_bias", classes)], "logits", transB=1)
    return build.model("resnet50", {"image": (TensorProto.FLOAT, (batch, 3, size, size))}, {"logits": (batch, classes)})


def calibration_feeds(count: int = 2, size: int = 224, batch: int = 1, seed: int = 1) -> list[dict[str, np.ndarray]]:
    """Return random images, for calibration and for runs."""
    random = np.random.default_rng(seed)
    return [{"image": random.standard_normal((batch, 3, size, size), np.float32)} for _ in range(count)]


def _bottleneck(build: GraphBuilder, name: str, x: str, channels: int, *, width: int, stride: int) -> str:
    """Add 1x1 -> 3x3 (stride) -> 1x1, and the shortcut, projected where the shape changes."""
    y = build.node("Relu", [_conv(build, f"{name}_conv1", x, channels, width)], f"{name}_relu1")
    y = build.node("Relu", [_conv(build, f"{name}_conv2", y, width, width, kernel=3, stride=stride)], f"{name}_relu2")
    out = width * EXPANSION
    # A small last weight keeps the sum of a deep stack of random blocks in range.
    y = _conv(build, f"{name}_conv3", y, width, out, gain=0.2)
    if stride != 1 or channels != out:
        x = _conv(build, f"{name}_shortcut", x, channels, out, stride=stride)
    return build.node("Relu", [build.node("Add", [y, x], f"{name}_add")], f"{name}_out")


def _conv(
    build: GraphBuilder,
    name: str,
    x: str,
    channels: int,
    out: int,
    *,
    kernel: int = 1,
    stride: int = 1,
    gain: float = 1.0,
) -> str:
    fan_in = round(channels * kernel * kernel / gain**2)
    weight = build.weight(f"{name}_weight", (out, channels, kernel, kernel), fan_in)
    return build.node(
        "Conv",
        [x, weight, build.bias(f"{name}_bias", out)],
        name,
        kernel_shape=[kernel, kernel],
        strides=[stride, stride],
        pads=[kernel // 2] * 4,
    )
