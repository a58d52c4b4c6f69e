"""A thin builder of ONNX models with random weights."""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
IR_VERSION = 8

Dimension = int | str


class GraphBuilder:
    """Collects nodes and initializers; values are named after what they are.

    Parameters
    ----------
    seed
        Of every random weight.
    """

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: list[onnx.TensorProto] = []

    def constant(self, name: str, value: NDArray[Any]) -> str:
        """Add an initializer and return its name."""
        self._initializers.append(numpy_helper.from_array(value, name))
        return name

    def weight(self, name: str, shape: tuple[int, ...], fan_in: int) -> str:
        """Add a float32 weight that keeps the variance of a ReLU network's activations (He et al., 2015)."""
        scale = np.sqrt(2.0 / fan_in)
        return self.constant(name, (self.random.standard_normal(shape, np.float32) * scale).astype(np.float32))

    def bias(self, name: str, channels: int) -> str:
        """Add a small float32 bias."""
        return self.constant(name, self.random.standard_normal(channels, np.float32) * np.float32(0.1))

    def node(self, op_type: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Add a node with one output, named after it, and return the output's name."""
        self._nodes.append(helper.make_node(op_type, inputs, [output], name=output, **attributes))
        return output

    def model(
        self,
        name: str,
        inputs: dict[str, tuple[int, tuple[Dimension, ...]]],
        outputs: dict[str, tuple[Dimension, ...]],
    ) -> onnx.ModelProto:
        """Return the checked model; inputs are (element type, shape), outputs float32."""
        graph = helper.make_graph(
            self._nodes,
            name,
            [helper.make_tensor_value_info(key, kind, shape) for key, (kind, shape) in inputs.items()],
            [helper.make_tensor_value_info(key, TensorProto.FLOAT, shape) for key, shape in outputs.items()],
            self._initializers,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        onnx.checker.check_model(model)
        return model
