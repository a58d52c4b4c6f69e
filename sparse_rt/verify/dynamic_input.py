"""The quantisation inside DynamicQuantizeMatMul, which no value of a reference shows."""

from collections.abc import Iterable, MutableMapping
from typing import Any

import onnx
from numpy.typing import NDArray

from sparse_rt import stock
from sparse_rt.plan.match.fusion import Fusion

__all__ = ["DynamicInputs"]

_OPSET = 17
_IR_VERSION = 8


class DynamicInputs:
    """Which values of a plan are the quantisation of which value of the reference.

    Parameters
    ----------
    fusions
        Of layers behind :func:`sparse_rt.plan.prepare.quantise_input.quantise_input`.
    """

    def __init__(self, fusions: Iterable[Fusion]) -> None:
        self._outputs: dict[str, tuple[str, ...]] = {}
        self._sources: dict[str, str] = {}
        for fusion in fusions:
            node = fusion.x.producer()
            if node is None or node.op_type != "DynamicQuantizeLinear" or node.inputs[0] is None:
                continue
            names = tuple(str(value.name) for value in node.outputs)
            self._outputs[str(node.inputs[0].name)] = names
            self._sources.update(dict.fromkeys(names, str(node.inputs[0].name)))

    def source(self, name: str) -> str:
        """Return the value of the reference that a value is made of; the value itself where it is none of these."""
        return self._sources.get(name, name)

    def add_to(self, values: MutableMapping[str, NDArray[Any]]) -> None:
        """Add the quantisation of each value that has one, as onnxruntime computes it."""
        for source in [name for name in values if name in self._outputs]:
            values.update(zip(self._outputs[source], _quantised(values[source]), strict=True))


def _quantised(x: NDArray[Any]) -> list[NDArray[Any]]:
    names = ["quantised", "scale", "zero_point"]
    node = onnx.helper.make_node("DynamicQuantizeLinear", ["x"], names)
    inputs = [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, x.shape)]
    graph = onnx.helper.make_graph([node], "input", inputs, [onnx.ValueInfoProto(name=name) for name in names])
    opsets = [onnx.helper.make_opsetid("", _OPSET)]
    session = stock.open_session(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION))
    found: list[NDArray[Any]] = stock.run(session, None, {"x": x})
    return found
