"""Initializers that are inputs as well: constants before IR version 4, which lists all of them; defaults from then on.

onnxruntime knows no feed by the name of such a constant. So a model that was read has it among its initializers only,
whatever its version, and what is written has the inputs that were read.
"""

from typing import Final

import onnx
import onnx_ir as ir

__all__ = ["forget", "put_back", "take_out"]

_FIRST_IR_VERSION_WITH_OVERRIDES: Final = 4
#: Where the ``meta`` of a graph has the names of all inputs that were read, in their order.
_INPUTS: Final = "sparse_rt.inputs"


def take_out(model: ir.Model) -> None:
    """Remove the inputs of a model that no feed may name; :func:`put_back` has them written all the same.

    Parameters
    ----------
    model
        Changed, if its IR version is one without overrides.
    """
    graph = model.graph
    constants = [value for value in graph.inputs if value.is_initializer()]
    if model.ir_version >= _FIRST_IR_VERSION_WITH_OVERRIDES or not constants:
        return
    graph.meta[_INPUTS] = tuple(value.name for value in graph.inputs)
    for value in constants:
        graph.inputs.remove(value)


def put_back(graph: ir.Graph, proto: onnx.GraphProto) -> None:
    """List the inputs that were taken out, in their order.

    Parameters
    ----------
    graph
        As :func:`take_out` left it, or a copy.
    proto
        The serialised graph; changed.
    """
    names = graph.meta.get(_INPUTS)
    if names is None:
        return
    written = {item.name: onnx.ValueInfoProto.FromString(item.SerializeToString()) for item in proto.input}
    del proto.input[:]
    for name in names:
        proto.input.append(written.get(name) or ir.serde.serialize_value(graph.initializers[name]))


def forget(model: ir.Model) -> None:
    """Let :func:`put_back` do nothing: in the IR version that the model is raised to they would be overridable.

    Parameters
    ----------
    model
        Changed.
    """
    take_out(model)
    model.graph.meta.pop(_INPUTS, None)
