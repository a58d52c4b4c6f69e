"""MobileNetV2 (Sandler et al., 2018) with batch normalisation folded into the weights.

Its 1x1 convolutions and its last layer can hold 2:4; the stem reads 3 channels and a depthwise convolution 1.
"""

import numpy as np
import onnx
from onnx import TensorProto

from benchmarks.models.graph_builder import Dimension, GraphBuilder

STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Expansion, channels, blocks, stride of the first block."""

STEM = 32
LAST = 1280


def mobilenet_v2(
    *,
    batch: Dimension = "batch",
    size: Dimension = 224,
    classes: int = 1000,
    stages: tuple[tuple[int, int, int, int], ...] = STAGES,
    seed: int = 0,
) -> onnx.ModelProto:
    """Return a float32 MobileNetV2: input ``image`` (batch, 3, size, size), output ``logits`` (batch, classes).

    Parameters
    ----------
    batch, size
        A number, or a name for a dynamic dimension.
    classes
        Rows of the last layer.
    stages
        (expansion, channels, blocks, stride) of each stage. Fewer ones make a small model of the same form.
    seed
        Of the random weights.
    """
    build = GraphBuilder(seed)
    build.constant("zero", np.array(0, np.float32))
    build.constant("six", np.array(6, np.float32))
    x = _relu6(build, _conv(build, "stem", "image", 3, STEM, kernel=3, stride=2))
    channels = STEM
    for stage, (expansion, out, count, first_stride) in enumerate(stages, start=1):
        for block in range(count):
            stride = first_stride if block == 0 else 1
            name = f"stage{stage}_block{block}"
            x = _inverted_residual(build, name, x, channels, out, expansion=expansion, stride=stride)
            channels = out
    x = _relu6(build, _conv(build, "last", x, channels, LAST, linear_input=True))
    x = build.node("GlobalAveragePool", [x], "pool")
    x = build.node("Flatten", [x], "features", axis=1)
    weight = build.weight("fc_weight", (classes, LAST), LAST)
    build.node("Gemm", [x, weight, build.bias("fc_bias", classes)], "logits", transB=1)
    image = (TensorProto.FLOAT, (batch, 3, size, size))
    return build.model("mobilenet_v2", {"image": image}, {"logits": (batch, classes)})


def calibration_feeds(count: int = 2, size: int = 224, batch: int = 1, seed: int = 1) -> list[dict[str, np.ndarray]]:
    """Return random images, for calibration and for runs."""
    random = np.random.default_rng(seed)
    return [{"image": random.standard_normal((batch, 3, size, size), np.float32)} for _ in range(count)]


def _inverted_residual(
    build: GraphBuilder, name: str, x: str, channels: int, out: int, *, expansion: int, stride: int
) -> str:
    """Add 1x1 expansion -> depthwise 3x3 (stride) -> linear 1x1 projection, and the shortcut where shapes allow."""
    hidden = channels * expansion
    y = x
    if expansion != 1:
        y = _relu6(build, _conv(build, f"{name}_expand", y, channels, hidden, linear_input=True))
    y = _relu6(build, _conv(build, f"{name}_depthwise", y, hidden, hidden, kernel=3, stride=stride, depthwise=True))
    y = _conv(build, f"{name}_project", y, hidden, out)
    if stride != 1 or channels != out:
        return y
    return build.node("Add", [y, x], f"{name}_add")


def _relu6(build: GraphBuilder, x: str) -> str:
    return build.node("Clip", [x, "zero", "six"], f"{x}_relu6")


def _conv(
    build: GraphBuilder,
    name: str,
    x: str,
    channels: int,
    out: int,
    *,
    kernel: int = 1,
    stride: int = 1,
    depthwise: bool = False,
    linear_input: bool = False,
) -> str:
    """Add Conv and bias; `linear_input` is one of zero mean, whose variance no ReLU halved."""
    channels_of_one = 1 if depthwise else channels
    fan_in = channels_of_one * kernel * kernel
    weight = build.weight(f"{name}_weight", (out, channels_of_one, kernel, kernel), fan_in * (1 + linear_input))
    return build.node(
        "Conv",
        [x, weight, build.bias(f"{name}_bias", out)],
        name,
        kernel_shape=[kernel, kernel],
        strides=[stride, stride],
        pads=[kernel // 2] * 4,
        group=channels if depthwise else 1,
    )
