"""A U-Net (Ronneberger et al., 2015), narrower: convolutions down, ConvTranspose up, what was left beside it."""

import numpy as np
import onnx
from onnx import TensorProto

from benchmarks.models.graph_builder import GraphBuilder

SIZE = 96
WIDTHS = (32, 64, 128, 256)


def unet(seed: int = 0) -> onnx.ModelProto:
    """Return a float32 segmenter: ``image`` (1, 3, 96, 96) -> ``mask`` (1, 4, 96, 96)."""
    build = GraphBuilder(seed)
    x, channels, left = "image", 3, []
    for level, width in enumerate(WIDTHS):
        if level:
            x = build.node("MaxPool", [x], f"down{level}_pool", kernel_shape=[2, 2], strides=[2, 2])
        x, channels = _two(build, f"down{level}", x, channels, width), width
        left.append(x)
    for level in reversed(range(len(WIDTHS) - 1)):
        width = WIDTHS[level]
        weight = build.weight(f"up{level}_weight", (channels, width, 2, 2), channels)
        inputs = [x, weight, build.bias(f"up{level}_bias", width)]
        x = build.node("ConvTranspose", inputs, f"up{level}", kernel_shape=[2, 2], strides=[2, 2])
        x = build.node("Concat", [left[level], x], f"up{level}_concat", axis=1)
        x, channels = _two(build, f"up{level}", x, 2 * width, width), width
    _conv(build, "mask", x, channels, 4, 1)
    image = (TensorProto.FLOAT, (1, 3, SIZE, SIZE))
    return build.model("unet", {"image": image}, {"mask": (1, 4, SIZE, SIZE)})


def calibration_feeds(count: int = 2, seed: int = 1) -> list[dict[str, np.ndarray]]:
    """Return random images, for calibration and for runs."""
    random = np.random.default_rng(seed)
    return [{"image": random.standard_normal((1, 3, SIZE, SIZE), np.float32)} for _ in range(count)]


def _two(build: GraphBuilder, name: str, x: str, channels: int, width: int) -> str:
    for number, inputs in enumerate((channels, width)):
        x = build.node("Relu", [_conv(build, f"{name}_conv{number}", x, inputs, width, 3)], f"{name}_relu{number}")
    return x


def _conv(build: GraphBuilder, name: str, x: str, channels: int, out: int, kernel: int) -> str:
    weight = build.weight(f"{name}_weight", (out, channels, kernel, kernel), channels * kernel * kernel)
    attributes = {"kernel_shape": [kernel] * 2, "pads": [kernel // 2] * 4}
    return build.node("Conv", [x, weight, build.bias(f"{name}_bias", out)], name, **attributes)
