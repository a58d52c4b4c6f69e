"""The functions of the ``sparse_rt`` domain in a model that was read.

sparse_rt takes the meaning of a compressed node from its operator, any other engine from the body of the function of
that name: so the body must be what sparse_rt writes. Models are brought to today's form here: those written when one
name stood for several functions, told apart by their overloads, and those that lost their functions to another tool.
"""

import functools
import warnings
from collections.abc import Iterator

import onnx
import onnx_ir as ir

from sparse_rt.errors import ModelError, SparseRTWarning, message
from sparse_rt.graph import initializer_inputs
from sparse_rt.graph.decode.functions import functions_for, written
from sparse_rt.graph.dense_forms import MICROSOFT
from sparse_rt.graph.fingerprint import fingerprint
from sparse_rt.graph.neighbours.restore import restore
from sparse_rt.graph.operators import (
    COMPRESSED,
    DOMAIN,
    IR_VERSION,
    MIN_OPSET,
    VERSION,
    CompressedForm,
    overloaded_form,
)
from sparse_rt.protos import node_lists

__all__ = ["add_functions", "lacks_functions", "raise_ir_version", "renew_functions", "replace_functions"]

_COMPRESS_AGAIN = "Compress the dense model again."


def lacks_functions(proto: onnx.ModelProto) -> bool:
    """Return whether a model calls an operator of our domain for which it has no body, so that only we can run it."""
    functions = {(function.name, function.overload) for function in proto.functions if function.domain == DOMAIN}
    return any(
        node.domain == DOMAIN and (node.op_type, node.overload) not in functions
        for nodes in node_lists(proto)
        for node in nodes
    )


def renew_functions(model: ir.Model, where: str) -> None:
    """Check the functions of our domain, and write them, and the nodes that call them, as this version does.

    The nodes that a compressed operator holds beside the dense one are nodes of their own afterwards; see
    :mod:`sparse_rt.graph.neighbours`.

    Parameters
    ----------
    model
        Changed.
    where
        What to call the model in messages.

    Raises
    ------
    ModelError
        A function of the domain is none of sparse_rt's, or computes something else than its name says; a node calls
        an operator that the domain does not have; the model's opset is older than compressed layers are.
    """
    functions = [function for function in model.functions.values() if function.domain == DOMAIN]
    for function in functions:
        _check(function, where)
    calls = [node for node in _nodes(model) if node.domain == DOMAIN]
    overloaded = {node.op_type for node in calls if node.overload}
    for node in calls:
        form = _form(node.op_type, node.overload)
        if form is None:
            at = f"layer '{node.name or node.outputs[0].name}'"
            expected = f"an operator of the domain {DOMAIN}, version {VERSION}"
            got = f"'{node.op_type}'" + (f", overload '{node.overload}'" if node.overload else "")
            raise ModelError(message(at, expected, got, "Compress the model again with this version."))
        node.op_type, node.overload = form.op_type, ""
    _remove_functions(model)
    if calls:
        if "" not in model.opset_imports and functions:
            model.opset_imports[""] = _opset(functions[0])
        opset = model.opset_imports.get("", 0)
        if opset < MIN_OPSET:
            expected = f"ai.onnx opset {MIN_OPSET} or newer beside operators of the domain {DOMAIN}"
            raise ModelError(message(where, expected, str(opset), _COMPRESS_AGAIN))
        restore(model)
        add_functions(model)
    if overloaded:
        expected = "functions with names of their own"
        got = f"overloads of {', '.join(sorted(overloaded))}, of which onnxruntime before 1.27 runs the first one only"
        remedy = "Write it again with sparse-rt compress before any other engine runs it."
        warnings.warn(message(where, expected, got, remedy), SparseRTWarning, stacklevel=3)


def replace_functions(model: ir.Model) -> None:
    """Give a model those functions of ours that its compressed nodes call now, and no others.

    Parameters
    ----------
    model
        Changed; with a compressed node.
    """
    _remove_functions(model)
    add_functions(model)


def _remove_functions(model: ir.Model) -> None:
    for identifier in [key for key, function in model.functions.items() if function.domain == DOMAIN]:
        del model.functions[identifier]


def add_functions(model: ir.Model) -> None:
    """Give a model the functions that its compressed nodes call, and what these need.

    Parameters
    ----------
    model
        Changed; with ai.onnx opset 11 or newer.
    """
    raise_ir_version(model)
    model.opset_imports[DOMAIN] = VERSION
    used = dict.fromkeys(node.op_type for node in _nodes(model) if node.domain == DOMAIN)
    for function in functions_for([COMPRESSED[op_type] for op_type in used], model.opset_imports):
        model.functions[function.identifier()] = function


def raise_ir_version(model: ir.Model) -> None:
    """Raise a model's IR version to one with local functions, without a change of meaning.

    Parameters
    ----------
    model
        Changed.
    """
    initializer_inputs.forget(model)
    model.ir_version = max(model.ir_version, IR_VERSION)


def _nodes(model: ir.Model) -> Iterator[ir.Node]:
    """Yield the nodes of the graph, its subgraphs, and the functions of other domains."""
    yield from model.graph.all_nodes()
    for function in model.functions.values():
        if function.domain != DOMAIN:
            yield from function.all_nodes()


def _form(op_type: str, overload: str) -> CompressedForm | None:
    return overloaded_form(op_type, overload) if overload else COMPRESSED.get(op_type)


def _check(function: ir.Function, where: str) -> None:
    """Raise unless a function of our domain is one that sparse_rt writes."""
    name = f"{function.name}:{function.overload}" if function.overload else function.name
    at = f"{where}, function '{DOMAIN}.{name}'"
    opset = _opset(function)
    form = _form(function.name, function.overload)
    own_name = form.op_type if form is not None else name
    known = _fingerprints(own_name, opset, function.opset_imports.get(MICROSOFT, 1))
    if not known:
        remedy = "Rename the function's domain."
        raise ModelError(message(at, f"a function of sparse_rt's own in the domain {DOMAIN}", "another", remedy))
    if fingerprint(function) not in known:
        expected = f"the body that sparse_rt writes for ai.onnx opset {opset}"
        raise ModelError(message(at, expected, "one that may compute something else", _COMPRESS_AGAIN))


@functools.lru_cache(maxsize=1024)  # a session reads its model more than once
def _fingerprints(name: str, opset: int, microsoft: int) -> frozenset[str]:
    return frozenset(map(fingerprint, written(name, {"": opset, MICROSOFT: microsoft})))


def _opset(function: ir.Function) -> int:
    return function.opset_imports.get("", function.opset_imports.get("ai.onnx", 0))
