"""The names that a compressed operator's nodes had in the dense model, and have again when they are put back."""

import json
from collections.abc import Sequence

import onnx_ir as ir

__all__ = ["note", "take_noted"]

_KEY = "sparse_rt.names"
"""The key in the metadata of a node: a list in JSON, of the names of each node and of what it writes, in their order
in the function's body."""


def note(node: ir.Node, nodes: Sequence[ir.Node]) -> None:
    """Note the names of `nodes`, in the order of the body, at the operator that stands for them."""
    names = [name or "" for each in nodes for name in (each.name, each.outputs[0].name)]
    node.metadata_props[_KEY] = json.dumps(names)


def take_noted(node: ir.Node) -> list[tuple[str, str]]:
    """Remove the note from a node, and return the names of each node and of what it writes.

    Returns
    -------
    list
        Empty where a tool has dropped the note, or it is none.
    """
    try:
        names = json.loads(node.metadata_props.pop(_KEY, "[]"))
    except (ValueError, RecursionError):
        return []
    if not isinstance(names, list) or not all(isinstance(name, str) and "\0" not in name for name in names):
        return []
    return list(zip(names[::2], names[1::2], strict=False))
