"""Bring a model to the form in which its layers are found."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import onnx_ir as ir

from sparse_rt.graph.operators import DOMAIN
from sparse_rt.plan.prepare.fold import fold
from sparse_rt.plan.prepare.inline import inline, is_inlinable
from sparse_rt.plan.prepare.pad import absorb_pads
from sparse_rt.plan.prepare.unfuse import unfuse

__all__ = ["prepare"]

#: Nodes of a model, and functions, up to which these are inlined: beyond, they stay as they are, and onnxruntime runs
#: them. So many take a second.
_MOST_INLINED: Final = 1 << 15
_MOST_FUNCTIONS: Final = 1 << 12


def prepare(model: ir.Model) -> ir.Model:
    """Return the model with local functions inlined, constants folded, pads in convolutions, fused operators apart.

    Names of layers, and of the values that they read and write, stay as they were.

    Parameters
    ----------
    model
        Changed.
    """
    _inline(model)
    model = fold(model)
    absorb_pads(model)
    unfuse(model)
    return model


def _inline(model: ir.Model) -> None:
    """Replace calls of the model's own functions by their bodies, where layers hide; ours keep their form."""
    if all(function.domain == DOMAIN for function in model.functions.values()):
        return
    versions = dict(model.opset_imports)
    foreign = [function for function in model.functions.values() if function.domain != DOMAIN]
    if any(
        versions.setdefault(domain, version) != version for f in foreign for domain, version in f.opset_imports.items()
    ):
        return  # bodies of another opset cannot be inlined; onnxruntime runs them as they are
    if len(foreign) > _MOST_FUNCTIONS or not all(map(is_inlinable, foreign)) or not _is_small_inlined(model):
        return
    inline(model, {identifier: f for identifier, f in model.functions.items() if f.domain != DOMAIN})


def _is_small_inlined(model: ir.Model) -> bool:
    """Return whether inlining ends, and in a model of a reasonable size: functions that call others twice double it."""
    calls = {key: _calls(model, function.all_nodes()) for key, function in model.functions.items()}
    sizes: dict[ir.OperatorIdentifier, int] = {}
    under_way: set[ir.OperatorIdentifier] = set()
    stack = list(calls)
    while stack:
        key = stack[-1]
        if key in sizes:
            stack.pop()
            continue
        missing = [called for called in calls[key].functions if called not in sizes]
        if not missing:
            sizes[key] = calls[key].inlined(sizes)
            under_way.discard(key)
            stack.pop()
        elif key in under_way:
            return False  # a function that calls itself
        else:
            under_way.add(key)
            stack.extend(missing)
    return _calls(model, model.graph.all_nodes()).inlined(sizes) <= _MOST_INLINED


class _Calls(NamedTuple):
    """How many nodes a body has, subgraphs included, and how often it calls which functions."""

    nodes: int
    functions: Counter[ir.OperatorIdentifier]

    def inlined(self, sizes: Mapping[ir.OperatorIdentifier, int]) -> int:
        """Return how many nodes it has in the end, given the sizes of functions."""
        return self.nodes + sum(count * sizes[called] for called, count in self.functions.items())


def _calls(model: ir.Model, nodes: Iterable[ir.Node]) -> _Calls:
    total, found = 0, Counter[ir.OperatorIdentifier]()
    for node in nodes:
        total += 1
        identifier = node.op_identifier()
        if identifier in model.functions and node.domain != DOMAIN:
            found[identifier] += 1
    return _Calls(total, found)
