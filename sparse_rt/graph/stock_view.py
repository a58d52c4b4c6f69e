"""What stock onnxruntime says of a model: whether it is one, and which types and shapes its values have.

What onnxruntime loads is a valid model; what it refuses is none. It is asked about the model without the data of its
large initializers, and resolves the graph only: no optimisation, no kernel, no weight. That takes it 2 ms for
MobileNetV2, 20 for BERT-base.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import onnx
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as native

from sparse_rt.errors import ModelError, also, message
from sparse_rt.protos import node_lists

__all__ = ["StockView", "Typed", "ask", "has_custom_operators", "operators", "output_types"]

_FATAL = 4


class Typed(NamedTuple):
    """A value as onnxruntime describes it: a shape without entries is that of a scalar, or unknown."""

    name: str
    type: str
    shape: list[int | str | None]


class StockView(NamedTuple):
    """What onnxruntime made of a model.

    Attributes
    ----------
    inputs
        Of the graph, those with defaults included.
    outputs
        Of the graph, in order.
    inner
        Values that the model says something of.
    """

    inputs: list[Typed]
    outputs: list[Typed]
    inner: list[Typed]


def ask(proto: onnx.ModelProto, where: str, elsewhere: Iterable[int]) -> StockView:
    """Return what onnxruntime makes of a model.

    Parameters
    ----------
    proto
        As it was read; the same afterwards.
    where
        What to call it in messages.
    elsewhere
        Numbers of the initializers whose data is not in `proto`.

    Raises
    ------
    ModelError
        onnxruntime refuses the model.
    """
    declared = len(proto.graph.output)
    try:
        session = _loaded(_asked_about(proto, elsewhere))
        inputs = [*map(_typed, session.inputs_meta), *map(_typed, session.overridable_initializers)]
        outputs = list(map(_typed, session.outputs_meta))
    except Exception as error:  # onnxruntime and protobuf raise a dozen unrelated types for a bad model
        got = " ".join(str(error).split()) or type(error).__name__
        kind = type(error) if type(error).__module__.startswith("onnxruntime") else ModelError
        raise also(ModelError, kind)(message(where, "a model that stock onnxruntime loads", got.rstrip("."))) from error
    return StockView(inputs, outputs[:declared], outputs[declared:])


def output_types(content: bytes) -> list[Typed]:
    """Return what onnxruntime infers of the outputs of a serialised model; it raises what it likes."""
    return list(map(_typed, _loaded(content).outputs_meta))


def _loaded(content: bytes) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = _FATAL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    # Loaded, not initialised, which onnxruntime.InferenceSession does at once; that would make every kernel.
    return native.InferenceSession(options, content, False, False)


def _typed(item: Any) -> Typed:
    return Typed(item.name, item.type, list(item.shape))


def _asked_about(proto: onnx.ModelProto, elsewhere: Iterable[int]) -> bytes:
    """Serialise a model that has its large data elsewhere, and that puts out what it says something of."""
    graph = proto.graph
    numbers = list(elsewhere)
    declared = len(graph.output)
    written = {name for node in graph.node for name in node.output if name}
    names = {info.name: None for info in graph.value_info if info.name in written}
    for output in graph.output:
        names.pop(output.name, None)
    for number in numbers:
        tensor = graph.initializer[number]
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="sparse_rt")
    # A bare name suffices: onnxruntime infers the type.
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    try:
        return bytes(proto.SerializeToString())
    finally:
        del graph.output[declared:]
        for number in numbers:
            graph.initializer[number].ClearField("data_location")
            graph.initializer[number].ClearField("external_data")


def operators() -> dict[str, dict[str, int]]:
    """Return the names of all operators that onnxruntime has, and their newest versions, by domain."""
    found: dict[str, dict[str, int]] = {}
    for schema in native.get_all_operator_schema():
        versions = found.setdefault(schema.domain, {})
        versions[schema.name] = max(schema.since_version, versions.get(schema.name, 0))
    return found


def has_custom_operators(proto: onnx.ModelProto) -> bool:
    """Return whether a node is of a domain that neither onnxruntime nor the model itself has operators for."""
    known = {"", "ai.onnx", *operators(), *(function.domain for function in proto.functions)}
    return any(node.domain not in known for nodes in node_lists(proto) for node in nodes)
