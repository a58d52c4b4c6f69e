"""How deep graphs lie within graphs: what no file can hold is refused before anything recurses into it."""

from typing import Final

import onnx

from sparse_rt.errors import ModelError, message

__all__ = ["MOST_NESTED", "check_nesting"]

#: Graphs within each other that protobuf, onnxruntime's included, reads back: 100 messages, of which each takes three.
MOST_NESTED: Final = 33


def check_nesting(proto: onnx.ModelProto, where: str) -> None:
    """Raise if graphs lie so deep within each other that protobuf does not read them back.

    Only a ModelProto made in memory can be like that.

    Raises
    ------
    ModelError
        They do.
    """
    bodies = [proto.graph.node, *(function.node for function in proto.functions)]
    for depth in range(MOST_NESTED + 1):
        graphs = [
            graph
            for nodes in bodies
            for node in nodes
            for attribute in node.attribute
            for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs)
        ]
        if not graphs:
            return
        if depth == MOST_NESTED:
            break
        bodies = [graph.node for graph in graphs]
    expected = f"at most {MOST_NESTED} graphs within each other, which is what a protobuf can hold"
    raise ModelError(message(where, expected, "more", "Put branches into functions."))
