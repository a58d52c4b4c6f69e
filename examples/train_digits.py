"""Train the three models of ``sparse-rt demo`` on scikit-learn's handwritten digits.

The data are real: 1797 grey 8x8 scans from the UCI set "Optical Recognition of Handwritten Digits". A fixed
stratified split leaves 500 images out; they steer no decision here (no early stopping, no choice of a
checkpoint, no calibration) and are only used for the accuracies printed at the end.

Files written to ``--output`` (default: the package data of ``sparse_rt.demo_data``):

``digits_dense.onnx``
    A float32 CNN of 240 k parameters, batch normalisation folded into the convolutions.
``digits_2to4.onnx``
    The same network, its magnitude mask 2:4 along the input channels taken from the dense weights, retrained with
    the mask held. Weights are stored dense, zeros included: ``sparse-rt compress`` is what halves them. conv1
    stays dense, for it has a single input channel.
``digits_2to4_int8.onnx``
    The former after onnxruntime's static quantisation: QDQ, int8 weights symmetric per output channel (a zero
    stays a zero, so 2:4 survives), uint8 activations calibrated on the training images.
``digits_test.npz``
    ``images`` uint8 (500, 1, 8, 8), grey levels 0..16, and ``labels`` uint8 (500,). The models want
    ``images / 16`` as float32.

Run it in an environment with the ``train`` extra; about a minute on two cores::

    pip install -e '.[train]'
    python examples/train_digits.py --output /tmp/digits

Seeds and thread count are fixed, so one machine with one set of library versions writes the same bytes each time.
Another CPU or another torch may add floats in another order: the weights then differ, and with them the accuracies
by a few images out of 500. ``digits_test.npz`` holds the same arrays everywhere.
"""

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.nn import functional

from sparse_rt import demo_data, sparsity
from sparse_rt.demo_data import DENSE_MODEL, SPARSE_INT8_MODEL, SPARSE_MODEL, TEST_IMAGES, scale_images

FloatArray = npt.NDArray[np.float32]
ByteArray = npt.NDArray[np.uint8]

SEED = 0
TEST_COUNT = 500
DENSE_EPOCHS, DENSE_RATE = 60, 3e-3
RETRAIN_EPOCHS, RETRAIN_RATE = 40, 1e-3
BATCH = 64
# Opset 18 has BitwiseAnd, which the decoder in a compressed file needs; every supported onnxruntime reads IR 9.
OPSET, IR_VERSION = 18, 9
DEMO_DATA = Path(demo_data.__file__).parent


@dataclass(frozen=True)
class Digits:
    """Images uint8 (count, 1, 8, 8) with grey levels 0..16, and their labels uint8 (count,)."""

    images: ByteArray
    labels: ByteArray

    @property
    def scaled(self) -> FloatArray:
        """The images as the models want them: float32 in [0, 1]."""
        return scale_images(self.images)


def load_split() -> tuple[Digits, Digits]:
    """Return the training and the held-out digits; every class has its share in both."""
    data = load_digits()
    images = data.images.astype(np.uint8)[:, np.newaxis]
    labels = data.target.astype(np.uint8)
    train_x, test_x, train_y, test_y = train_test_split(
        images, labels, test_size=TEST_COUNT, stratify=labels, random_state=SEED
    )
    return Digits(train_x, train_y), Digits(test_x, test_y)


class DigitsNet(nn.Module):
    """Three 3x3 convolutions (the last on 4x4 maps), global average pooling, two fully connected layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(1, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64)
        self.conv2, self.norm2 = nn.Conv2d(64, 128, 3, padding=1, bias=False), nn.BatchNorm2d(128)
        self.conv3, self.norm3 = nn.Conv2d(128, 128, 3, padding=1, bias=False), nn.BatchNorm2d(128)
        self.fc1 = nn.Linear(128, 128)
        self.fc2 = nn.Linear(128, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Map images (batch, 1, 8, 8) in [0, 1] to logits (batch, 10)."""
        x = functional.relu(self.norm1(self.conv1(image)))
        x = functional.relu(self.norm2(self.conv2(x)))
        x = functional.max_pool2d(x, 2)
        x = functional.relu(self.norm3(self.conv3(x)))
        x = x.mean(dim=(2, 3))
        x = functional.relu(self.fc1(x))
        logits: torch.Tensor = self.fc2(x)
        return logits

    def prunable(self) -> dict[str, torch.Tensor]:
        """Return the weights of the layers with more than 4 input channels, by layer name."""
        return {
            "conv2": self.conv2.weight,
            "conv3": self.conv3.weight,
            "fc1": self.fc1.weight,
            "fc2": self.fc2.weight,
        }


def jitter(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Turn each image (batch, 1, 8, 8) by up to 10 degrees and shift it by up to 0.8 pixel."""
    count, _, height, width = images.shape
    uniform = torch.rand(count, 3, generator=generator) * 2 - 1
    angle = uniform[:, 0] * (10 * torch.pi / 180)
    cos, sin = angle.cos(), angle.sin()
    # grid_sample's coordinates run over [-1, 1]: one pixel is 2 / width
    shift_x, shift_y = uniform[:, 1] * (1.6 / width), uniform[:, 2] * (1.6 / height)
    theta = torch.stack([cos, -sin, shift_x, sin, cos, shift_y], dim=1).view(count, 2, 3)
    grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False)


def train(
    net: DigitsNet, digits: Digits, epochs: int, rate: float, keep: dict[str, torch.Tensor] | None = None
) -> None:
    """Train in place with AdamW and a one-cycle rate; leave the net in evaluation mode.

    Parameters
    ----------
    net : DigitsNet
        The network to train.
    digits : Digits
        The training images.
    epochs : int
        Passes over the training images; there is no early stopping.
    rate : float
        Peak learning rate.
    keep : dict of str to Tensor, optional
        Boolean masks by layer name; what they exclude is held at zero after each step.
    """
    images, labels = torch.from_numpy(digits.scaled), torch.from_numpy(digits.labels.astype(np.int64))
    generator = torch.Generator().manual_seed(SEED)
    steps = epochs * -(-len(images) // BATCH)
    optimizer = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=rate, total_steps=steps)
    net.train()
    for _ in range(epochs):
        order = torch.randperm(len(images), generator=generator)
        for first in range(0, len(images), BATCH):
            batch = order[first : first + BATCH]
            loss = functional.cross_entropy(net(jitter(images[batch], generator)), labels[batch])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
            hold(net, keep or {})
    net.eval()


@torch.no_grad()
def hold(net: DigitsNet, keep: dict[str, torch.Tensor]) -> None:
    """Set to zero what the masks do not keep."""
    weights = net.prunable()
    for name, mask in keep.items():
        weights[name].masked_fill_(~mask, 0.0)  # a product with the mask would leave negative zeros


def most_nonzeros(weight: npt.NDArray[np.generic]) -> int:
    """Return the largest count of nonzeros in any 4 contiguous input channels (axis 1), counted one by one."""
    rows: list[list[float]] = np.moveaxis(weight, 1, -1).reshape(-1, weight.shape[1]).tolist()
    return max(sum(value != 0 for value in row[first : first + 4]) for row in rows for first in range(0, len(row), 4))


def folded(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[FloatArray, FloatArray]:
    """Return weight and bias of the convolution that equals ``norm(conv(x))`` in evaluation mode."""
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError(f"{norm}: expected running statistics, got none. Build it with track_running_stats=True.")
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    weight = conv.weight.double() * scale.view(-1, 1, 1, 1)
    bias = norm.bias.double() - norm.running_mean.double() * scale
    # + 0.0 turns the -0.0 that a negative scale makes of a pruned weight into 0.0
    return (weight.detach().float().numpy() + np.float32(0)), bias.detach().float().numpy()


def to_onnx(net: DigitsNet) -> onnx.ModelProto:
    """Return the trained network as ONNX: ``image`` float32 (batch, 1, 8, 8) to ``logits`` float32 (batch, 10)."""
    weights = {
        "conv1": folded(net.conv1, net.norm1),
        "conv2": folded(net.conv2, net.norm2),
        "conv3": folded(net.conv3, net.norm3),
        "fc1": (net.fc1.weight.detach().numpy(), net.fc1.bias.detach().numpy()),
        "fc2": (net.fc2.weight.detach().numpy(), net.fc2.bias.detach().numpy()),
    }
    initializers = [
        numpy_helper.from_array(array, f"{layer}.{kind}")
        for layer, pair in weights.items()
        for kind, array in zip(("weight", "bias"), pair, strict=True)
    ]

    def node(operator: str, name: str, source: str, result: str, **attributes: Any) -> onnx.NodeProto:
        inputs = [source, f"{name}.weight", f"{name}.bias"] if name in weights else [source]
        return helper.make_node(operator, inputs, [result], name=name, **attributes)

    window = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    nodes = [
        node("Conv", "conv1", "image", "conv1_out", **window),
        node("Relu", "relu1", "conv1_out", "relu1_out"),
        node("Conv", "conv2", "relu1_out", "conv2_out", **window),
        node("Relu", "relu2", "conv2_out", "relu2_out"),
        node("MaxPool", "pool2", "relu2_out", "pool2_out", kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", "conv3", "pool2_out", "conv3_out", **window),
        node("Relu", "relu3", "conv3_out", "relu3_out"),
        node("GlobalAveragePool", "pool3", "relu3_out", "pool3_out"),
        node("Flatten", "flatten", "pool3_out", "flatten_out", axis=1),
        node("Gemm", "fc1", "flatten_out", "fc1_out", transB=1),
        node("Relu", "relu4", "fc1_out", "relu4_out"),
        node("Gemm", "fc2", "relu4_out", "logits", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 10])],
        initializers,
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="sparse_rt examples/train_digits.py",
    )
    model = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    onnx.checker.check_model(model, full_check=True)
    return model


class CalibrationImages:
    """Feeds the training images to onnxruntime's calibration, in batches; a CalibrationDataReader by its method."""

    def __init__(self, images: FloatArray) -> None:
        self._feeds: Iterator[dict[str, FloatArray]] = (
            {"image": images[first : first + BATCH]} for first in range(0, len(images), BATCH)
        )

    def get_next(self) -> dict[str, FloatArray] | None:
        """Return the next feed, or None after the last."""
        return next(self._feeds, None)


def quantized(model: onnx.ModelProto, images: FloatArray) -> onnx.ModelProto:
    """Return the static QDQ model: int8 weights symmetric per output channel, uint8 activations."""
    with tempfile.TemporaryDirectory() as folder:
        # Files, because quantize_static empties a ModelProto that it is given. Its warning asks for shapes and fused
        # normalisation, both of which the model has.
        source, target = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        onnx.save(model, source)
        quantize_static(
            source,
            target,
            CalibrationImages(images),
            quant_format=QuantFormat.QDQ,
            weight_type=QuantType.QInt8,
            activation_type=QuantType.QUInt8,
            per_channel=True,
        )
        result = onnx.load(target)
    onnx.checker.check_model(result, full_check=True)
    return result


def require_2to4(name: str, model: onnx.ModelProto) -> None:
    """Raise ValueError unless every weight of more than 4 input channels holds 2:4, counted naively."""
    for initializer in model.graph.initializer:
        weight = numpy_helper.to_array(initializer)
        if weight.ndim >= 2 and weight.shape[1] > 4 and (count := most_nonzeros(weight)) > 2:
            where = f"{name}: {initializer.name} {weight.shape}"
            raise ValueError(f"{where}: expected 2:4 along input channels, got {count} nonzeros in a group of 4.")


def accuracy(model: onnx.ModelProto, digits: Digits) -> float:
    """Return the share of digits that stock onnxruntime recognises with the model."""
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"image": digits.scaled})
    return float(np.mean(np.argmax(logits, axis=1) == digits.labels))


def build_models(digits: Digits) -> dict[str, onnx.ModelProto]:
    """Train dense, prune and retrain, quantise; return the three models by file name."""
    torch.manual_seed(SEED)
    net = DigitsNet()
    train(net, digits, DENSE_EPOCHS, DENSE_RATE)
    dense = to_onnx(net)

    weights = {name: weight.detach().numpy() for name, weight in net.prunable().items()}
    pattern = sparsity.parse("2:4")
    keep = {name: torch.from_numpy(sparsity.magnitude_mask(w, pattern)) for name, w in weights.items()}
    hold(net, keep)
    pruned_only = accuracy(to_onnx(net), digits)
    train(net, digits, RETRAIN_EPOCHS, RETRAIN_RATE, keep)
    sparse = to_onnx(net)
    print(
        f"training images: dense {accuracy(dense, digits):.4f}, pruned {pruned_only:.4f}, "
        f"retrained {accuracy(sparse, digits):.4f}"
    )

    models = {
        DENSE_MODEL: dense,
        SPARSE_MODEL: sparse,
        SPARSE_INT8_MODEL: quantized(sparse, digits.scaled),
    }
    for name in (SPARSE_MODEL, SPARSE_INT8_MODEL):
        require_2to4(name, models[name])
    return models


def main() -> None:
    """Train, check, write the files and print a line for each."""
    parser = argparse.ArgumentParser(description="Train the models of `sparse-rt demo`.")
    parser.add_argument("--output", type=Path, default=DEMO_DATA, metavar="DIR", help="default: %(default)s")
    output: Path = parser.parse_args().output
    torch.set_num_threads(2)  # the number of threads decides the order of sums, and so the exact weights
    torch.use_deterministic_algorithms(True)

    training, test = load_split()
    models = build_models(training)
    output.mkdir(parents=True, exist_ok=True)
    for name, model in models.items():
        onnx.save(model, output / name)
        size = (output / name).stat().st_size
        print(f"{name:24} {size:>9,} bytes   accuracy on {TEST_COUNT} held-out images {accuracy(model, test):.4f}")
    np.savez_compressed(output / TEST_IMAGES, images=test.images, labels=test.labels)
    print(f"{TEST_IMAGES:24} {(output / TEST_IMAGES).stat().st_size:>9,} bytes")


if __name__ == "__main__":
    main()
