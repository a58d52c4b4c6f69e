"""What a local function computes, as one number that spelling does not change.

Two functions with the same fingerprint compute the same. Names of values and nodes, the order of nodes, documentation,
metadata, nodes that nobody reads, Identity nodes, repeated or shared constants, and attributes that are written out
though they have their default do not count.
"""

import hashlib
from collections.abc import Hashable, Mapping

import numpy as np
import onnx
import onnx_ir as ir

from sparse_rt.errors import ModelError, message

__all__ = ["fingerprint"]

_CONSTANTS: Mapping[str, type[np.generic]] = {
    "value_float": np.float32,
    "value_floats": np.float32,
    "value_int": np.int64,
    "value_ints": np.int64,
}
_STANDARD = "ai.onnx"


def fingerprint(function: ir.Function) -> str:
    """Return the fingerprint of a function.

    Parameters
    ----------
    function
        Not changed.

    Raises
    ------
    ModelError
        A value is read that nobody writes.
    """
    opset = function.opset_imports.get("", function.opset_imports.get(_STANDARD, 0))
    known: dict[ir.Value | None, str] = {None: "absent"}
    known |= {value: _digest("input", position) for position, value in enumerate(function.inputs)}
    for node in _needed(function):
        inputs = [known[value] for value in node.inputs]
        while inputs and inputs[-1] == known[None]:
            inputs.pop()
        if _domain(node.domain) == "" and node.op_type == "Identity":
            known[node.outputs[0]] = inputs[0] if inputs else known[None]
            continue
        whole = _digest(_domain(node.domain), node.op_type, node.overload, _attributes(node, opset), *inputs)
        known |= {value: _digest(whole, position) for position, value in enumerate(node.outputs)}
    parameters = sorted(
        (name, "" if attribute.value is None else _attribute(attribute))
        for name, attribute in function.attributes.items()
    )
    return _digest(len(function.inputs), *parameters, *(known[value] for value in function.outputs))


def _needed(function: ir.Function) -> list[ir.Node]:
    """Return the nodes that the outputs depend on, each after those whose values it reads."""
    given = {None, *function.inputs}
    own = set(function)
    ordered: dict[ir.Node, None] = {}
    waiting = [value.producer() for value in function.outputs if value not in given]
    entered: set[ir.Node] = set()
    while waiting:
        node = waiting[-1]
        if node is None or node not in own:
            raise ModelError(
                message(f"function '{function.name}'", "a body that writes what it reads", "a stray value")
            )
        missing = [value.producer() for value in node.inputs if value is not None and value not in given]
        missing = [producer for producer in missing if producer not in ordered]
        if not missing:
            ordered[node] = None
            waiting.pop()
        elif node in entered:
            raise ModelError(message(f"function '{function.name}'", "a body without cycles", "a cycle"))
        else:
            entered.add(node)
            waiting += missing
    return list(ordered)


def _attributes(node: ir.Node, opset: int) -> tuple[tuple[str, str], ...]:
    if _domain(node.domain) == "" and node.op_type == "Constant":
        return (("value", _constant(node)),)
    defaults = _defaults(node, opset)
    found = {name: _attribute(attribute) for name, attribute in node.attributes.items()}
    return tuple(sorted((name, text) for name, text in found.items() if defaults.get(name) != text))


def _defaults(node: ir.Node, opset: int) -> dict[str, str]:
    """Return the attributes of a standard operator that have a default."""
    if _domain(node.domain) != "" or not onnx.defs.has(node.op_type, opset, ""):
        return {}
    schema = onnx.defs.get_schema(node.op_type, opset, "")
    return {
        name: _attribute(ir.serde.deserialize_attribute(attribute.default_value))
        for name, attribute in schema.attributes.items()
        if attribute.default_value.name
    }


def _constant(node: ir.Node) -> str:
    """Return a Constant's value, however it is spelled."""
    for name, attribute in node.attributes.items():
        if name in _CONSTANTS and not attribute.is_ref():
            return _tensor(ir.tensor(np.array(attribute.value, _CONSTANTS[name])))
        return _attribute(attribute)
    return ""


def _attribute(attribute: ir.Attr) -> str:
    if attribute.is_ref():
        return f"reference to {attribute.ref_attr_name}"
    if attribute.type == ir.AttributeType.TENSOR:
        return _tensor(attribute.value)
    value = attribute.value
    # Lists come back as lists or tuples; graphs have no fingerprint: each is like itself only.
    plain: Hashable = tuple(value) if isinstance(value, list | tuple) else value
    return f"{attribute.type.name} {plain!r}"


def _tensor(tensor: ir.TensorProtocol) -> str:
    return _digest(tensor.dtype.name, tuple(tensor.shape.numpy()), tensor.tobytes())


def _domain(domain: str) -> str:
    return "" if domain == _STANDARD else domain


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()
