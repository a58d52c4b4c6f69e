"""Image classifiers of known forms, narrower and for smaller images than their papers': every form, quickly run."""

from collections.abc import Callable

import numpy as np
import onnx
from onnx import TensorProto

from benchmarks.models.graph_builder import GraphBuilder

__all__ = ["calibration_feeds", "densenet", "efficientnet", "mobilenet_v3", "squeezenet", "vgg"]

SIZE = 96
_CLASSES = 100


def vgg() -> onnx.ModelProto:
    """Return a VGG (Simonyan and Zisserman, 2014): 3x3 convolutions, max pooling, two wide layers at the end."""
    net = _Image(0)
    x, channels = "image", 3
    for stage, (count, width) in enumerate(((1, 64), (1, 128), (2, 256), (2, 512), (2, 512))):
        for layer in range(count):
            x = net.relu(net.conv(f"stage{stage}_conv{layer}", x, channels, width, kernel=3))
            channels = width
        x = net.node("MaxPool", [x], f"stage{stage}_pool", kernel_shape=[2, 2], strides=[2, 2])
    x = net.node("Flatten", [x], "features", axis=1)
    features = channels * (SIZE // 32) ** 2
    x = net.relu(net.dense("fc1", x, features, 1024))
    return net.finish(net.dense("fc2", x, 1024, _CLASSES))


def densenet() -> onnx.ModelProto:
    """Return a DenseNet (Huang et al., 2017), normalisation folded: every layer reads all those before it."""
    net = _Image(1)
    x = net.relu(net.conv("stem", "image", 3, 64, kernel=7, stride=2))
    x = net.node("MaxPool", [x], "stem_pool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    channels = 64
    for block, count in enumerate((4, 6, 8)):
        for layer in range(count):
            name = f"block{block}_layer{layer}"
            y = net.relu(net.conv(f"{name}_conv1", x, channels, 128))
            y = net.relu(net.conv(f"{name}_conv2", y, 128, 32, kernel=3))
            x = net.node("Concat", [x, y], f"{name}_concat", axis=1)
            channels += 32
        if block < 2:
            x = net.relu(net.conv(f"block{block}_transition", x, channels, channels // 2))
            x = net.node("AveragePool", [x], f"block{block}_pool", kernel_shape=[2, 2], strides=[2, 2])
            channels //= 2
    return net.finish(net.head(x, channels))


def squeezenet() -> onnx.ModelProto:
    """Return a SqueezeNet 1.1 (Iandola et al., 2016): narrow 1x1, then 1x1 beside 3x3, concatenated."""
    net = _Image(2)
    x = net.relu(net.conv("stem", "image", 3, 64, kernel=3, stride=2))
    channels = 64
    for number, squeeze in enumerate((16, 16, 32, 32, 48, 48, 64, 64)):
        if number in (0, 2, 4):
            x = net.node("MaxPool", [x], f"pool{number}", kernel_shape=[3, 3], strides=[2, 2])
        y = net.relu(net.conv(f"fire{number}_squeeze", x, channels, squeeze))
        one = net.relu(net.conv(f"fire{number}_one", y, squeeze, 4 * squeeze))
        three = net.relu(net.conv(f"fire{number}_three", y, squeeze, 4 * squeeze, kernel=3))
        x, channels = net.node("Concat", [one, three], f"fire{number}", axis=1), 8 * squeeze
    x = net.relu(net.conv("classes", x, channels, _CLASSES))
    return net.finish(net.node("Flatten", [net.node("GlobalAveragePool", [x], "pool")], "flat", axis=1))


def efficientnet() -> onnx.ModelProto:
    """Return an EfficientNet (Tan and Le, 2019): inverted residuals, Swish, squeeze and excitation."""
    return _inverted(3, lambda net, x: net.node("Mul", [x, net.node("Sigmoid", [x], f"{x}_sigmoid")], f"{x}_swish"))


def mobilenet_v3() -> onnx.ModelProto:
    """Return a MobileNetV3 (Howard et al., 2019): inverted residuals, HardSwish, squeeze and excitation."""
    return _inverted(4, lambda net, x: net.node("HardSwish", [x], f"{x}_swish"), gate="HardSigmoid")


def _inverted(seed: int, swish: "Callable[[_Image, str], str]", gate: str = "Sigmoid") -> onnx.ModelProto:
    net = _Image(seed)
    x, channels = swish(net, net.conv("stem", "image", 3, 32, kernel=3, stride=2)), 32
    stages = (
        (16, 1, 1, 3, 1),
        (24, 2, 2, 3, 6),
        (40, 2, 2, 5, 6),
        (80, 3, 2, 3, 6),
        (112, 3, 1, 5, 6),
        (192, 3, 2, 5, 6),
    )
    for stage, (out, count, stride, kernel, expansion) in enumerate(stages):
        for block in range(count):
            name, hidden = f"stage{stage}_block{block}", channels * expansion
            y = x if expansion == 1 else swish(net, net.conv(f"{name}_expand", x, channels, hidden))
            step = stride if block == 0 else 1
            y = swish(net, net.conv(f"{name}_depthwise", y, hidden, hidden, kernel=kernel, stride=step, group=hidden))
            squeezed = net.node("GlobalAveragePool", [y], f"{name}_pool")
            inner = max(8, channels // 4)
            squeezed = net.relu(net.conv(f"{name}_reduce", squeezed, hidden, inner))
            factor = net.node(gate, [net.conv(f"{name}_restore", squeezed, inner, hidden)], f"{name}_gate")
            y = net.conv(f"{name}_project", net.node("Mul", [y, factor], f"{name}_gated"), hidden, out)
            x = net.node("Add", [y, x], f"{name}_add") if step == 1 and channels == out else y
            channels = out
    return net.finish(net.head(swish(net, net.conv("last", x, channels, 640)), 640))


def calibration_feeds(count: int = 2, seed: int = 1) -> list[dict[str, np.ndarray]]:
    """Return random images, for calibration and for runs."""
    random = np.random.default_rng(seed)
    return [{"image": random.standard_normal((1, 3, SIZE, SIZE), np.float32)} for _ in range(count)]


class _Image(GraphBuilder):
    """Layers of a network from ``image`` (1, 3, 96, 96) to ``logits`` (1, 100)."""

    def conv(
        self, name: str, x: str, channels: int, out: int, *, kernel: int = 1, stride: int = 1, group: int = 1
    ) -> str:
        """Add Conv and bias, padded to its input's size."""
        shape = (out, channels // group, kernel, kernel)
        weight = self.weight(f"{name}_weight", shape, shape[1] * kernel * kernel)
        attributes = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [kernel // 2] * 4, "group": group}
        return self.node("Conv", [x, weight, self.bias(f"{name}_bias", out)], name, **attributes)

    def relu(self, x: str) -> str:
        """Add Relu."""
        return self.node("Relu", [x], f"{x}_relu")

    def dense(self, name: str, x: str, inputs: int, outputs: int) -> str:
        """Add Gemm."""
        weight = self.weight(f"{name}_weight", (outputs, inputs), inputs)
        return self.node("Gemm", [x, weight, self.bias(f"{name}_bias", outputs)], name, transB=1)

    def head(self, x: str, channels: int) -> str:
        """Add the mean over pixels and the last layer."""
        x = self.node("Flatten", [self.node("GlobalAveragePool", [x], "pool")], "flat", axis=1)
        return self.dense("fc", x, channels, _CLASSES)

    def finish(self, x: str) -> onnx.ModelProto:
        """Return the model."""
        self.node("Identity", [x], "logits")
        return self.model("classifier", {"image": (TensorProto.FLOAT, (1, 3, SIZE, SIZE))}, {"logits": (1, _CLASSES)})
