"""pytest-benchmark: every kernel on ResNet-50's layers. On demand: ``python -m pytest benchmarks/test_conv.py``."""

from typing import Any

import pytest

from benchmarks.kernel_cases import conv_call, kernels, shapes

NAMES = (
    "stage2_block1_conv2",
    "stage3_block1_conv2",
    "stage3_block1_conv3",
    "stage4_block2_conv2",
    "stage5_block2_conv1",
    "stage5_block2_conv2",
)
LAYERS = [layer for layer in shapes("resnet50_conv")["layers"] if layer["name"] in NAMES]


@pytest.mark.parametrize("layer", LAYERS, ids=[layer["name"] for layer in LAYERS])
@pytest.mark.parametrize("kernel", [*kernels("u8s8"), *kernels("f32")], ids=lambda kernel: str(kernel.name))
def test_conv(benchmark: Any, kernel: Any, layer: dict[str, Any]) -> None:
    benchmark.group = f"{kernel.dtype} {layer['name']}"
    benchmark(conv_call(kernel, layer))
