"""A network whose layers hold a pattern, one of them 2:4, in float32 and int8."""

import numpy as np

from benchmarks.models.quantise import quantise_static
from tests import naive
from tests.models.onnx_models import info, model, node

KEPT = 0.25
LAYERS = ("first", "up", "two_four", "last")
SPARSE = ("first", "up", "last")
"""Those that hold the pattern, and not 2:4."""


def feeds(seed=1):
    return {"x": np.random.default_rng(seed).standard_normal((2, 9, 7, 5)).astype(np.float32)}


def network(pattern, form, hold=True):
    """The model in float32 or int8, its weights pruned unless `hold` is false.

    Channels divide by nothing that blocks have.
    """
    rng = np.random.default_rng(0)

    def weight(*shape):
        # None so small that a byte of it is 0.
        values = rng.uniform(0.2, 1, shape) * rng.choice([-1, 1], shape)
        return (values / np.sqrt(np.prod(shape[1:]))).astype(np.float32)

    def kept(dense):
        dense[:4, :3] *= 3  # so that they stay, three in a group of four, which is not 2:4
        return np.where(mask(pattern, dense), dense, np.float32(0)) if hold else dense

    weights = {
        "first.w": kept(weight(18, 9, 3, 3)),
        "up.w": kept(weight(13, 18, 2, 2)).swapaxes(0, 1).copy(),
        "two_four.w": naive.prune_2_4(weight(40, 13, 1, 1)),
        "last.w": kept(weight(22, 40)).T.copy(),
        "first.b": weight(18, 1).ravel(),
        "last.b": weight(22, 1).ravel(),
    }
    nodes = [
        node("Conv", ["x", "first.w", "first.b"], ["a"], name="first", pads=[1, 1, 1, 1]),
        node("Relu", ["a"], ["b"]),
        node("ConvTranspose", ["b", "up.w"], ["c"], name="up", strides=[2, 2]),
        node("Relu", ["c"], ["d"]),
        node("Conv", ["d", "two_four.w"], ["e"], name="two_four"),
        node("GlobalAveragePool", ["e"], ["f"]),
        node("Flatten", ["f"], ["g"]),
        node("MatMul", ["g", "last.w"], ["h"], name="last"),
        node("Add", ["h", "last.b"], ["y"]),
    ]
    proto = model(nodes, [info("x", 2, 9, 7, 5)], [info("y", 2, 22)], weights)
    if form == "float32":
        return proto
    kinds = ["Conv", "MatMul"]  # onnxruntime's quantiser scales a ConvTranspose along the wrong axis
    return quantise_static(proto, [feeds(seed) for seed in range(4)], op_types=kinds)


def mask(pattern, dense):
    """Which weights stay if their magnitude decides."""
    found = pattern.FAMILY.parse(pattern.FAMILY.example)
    return found.mask(np.abs(dense), KEPT if found.density is None else None)
