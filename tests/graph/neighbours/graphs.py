"""Dense networks in which layers have neighbours of every kind."""

import numpy as np
from onnx import helper

from tests.graph import models

__all__ = ["quantised_block"]

node = helper.make_node


def quantised_block():
    """Two quantised layers that read one DequantizeLinear, which an Add reads as well, and one after them."""
    constants = {
        "xs": np.float32(0.02),
        "xz": np.uint8(128),
        "ws": np.float32(0.01),
        "wz": np.int8(0),
        "ys": np.float32(0.1),
        **{f"w{number}": models.two_four(number, (8, 8), np.int8).T.copy() for number in range(3)},
    }
    nodes = [
        node("QuantizeLinear", ["x", "xs", "xz"], ["xq"], name="quantise"),
        node("DequantizeLinear", ["xq", "xs", "xz"], ["xf"], name="dequantise"),
    ]
    for number, source in enumerate(("xf", "xf", "sum")):
        nodes += [
            node("DequantizeLinear", [f"w{number}", "ws", "wz"], [f"{number}.wf"]),
            node("MatMul", [source, f"{number}.wf"], [f"h{number}"], name=f"layer{number}"),
            node("QuantizeLinear", [f"h{number}", "ys", "xz"], [f"q{number}"], name=f"q{number}"),
            node("DequantizeLinear", [f"q{number}", "ys", "xz"], [f"f{number}"], name=f"f{number}"),
        ]
        if number == 1:
            nodes += [
                node("Add", ["f0", "f1"], ["half"], name="add"),
                node("Add", ["half", "xf"], ["whole"], name="residual"),
                node("QuantizeLinear", ["whole", "ys", "xz"], ["sumq"], name="sumq"),
                node("DequantizeLinear", ["sumq", "ys", "xz"], ["sum"], name="sum"),
            ]
    constants = {name: np.asarray(value) for name, value in constants.items()}
    return models.model(nodes, [models.info("x", ["n", 8])], [models.info("f2", ["n", 8])], constants)
