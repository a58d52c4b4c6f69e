"""The top MLP of DLRM (Naumov et al., 2019) as MLPerf sizes it, its 479 inputs padded to 480."""

from itertools import pairwise

import numpy as np
import onnx
from onnx import TensorProto

from benchmarks.models.graph_builder import Dimension, GraphBuilder

WIDTHS = (480, 1024, 1024, 512, 256, 1)


def top_mlp(*, batch: Dimension = "batch", widths: tuple[int, ...] = WIDTHS, seed: int = 0) -> onnx.ModelProto:
    """Return a float32 MLP: input ``interactions`` (batch, widths[0]), output ``click`` (batch, widths[-1]).

    Parameters
    ----------
    batch
        A number, or a name for a dynamic dimension.
    widths
        Of the input and of every layer: Gemm and ReLU, the last one with a sigmoid.
    seed
        Of the random weights.
    """
    build = GraphBuilder(seed)
    x = "interactions"
    for layer, (inputs, outputs) in enumerate(pairwise(widths), start=1):
        weight = build.weight(f"fc{layer}_weight", (outputs, inputs), inputs)
        x = build.node("Gemm", [x, weight, build.bias(f"fc{layer}_bias", outputs)], f"fc{layer}", transB=1)
        if layer < len(widths) - 1:
            x = build.node("Relu", [x], f"fc{layer}_relu")
    build.node("Sigmoid", [x], "click")
    feed = (TensorProto.FLOAT, (batch, widths[0]))
    return build.model("dlrm_top", {"interactions": feed}, {"click": (batch, widths[-1])})


def calibration_feeds(
    count: int = 2, batch: int = 128, inputs: int = WIDTHS[0], seed: int = 1
) -> list[dict[str, np.ndarray]]:
    """Return random interactions, for calibration and for runs."""
    random = np.random.default_rng(seed)
    return [{"interactions": random.standard_normal((batch, inputs), np.float32)} for _ in range(count)]
