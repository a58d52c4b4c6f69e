"""Weights that several nodes read: a weight can only be changed for all of its readers, or for none."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from sparse_rt.graph.dense_forms import DenseForm
from sparse_rt.graph.layers.find import match
from sparse_rt.graph.layers.layer import Layer
from sparse_rt.graph.layers.weights import LINKS, ConstantWeight

__all__ = ["Candidate", "candidate_of", "stay_dense"]


@dataclass(frozen=True, eq=False)
class Candidate:
    """A dense layer whose weight is to be changed, with the constant that the weight is made of."""

    layer: Layer
    form: DenseForm
    weight: ConstantWeight

    @property
    def orientation(self) -> tuple[int, ...]:
        """Axes of the root tensor in canonical order: equal where two layers read it the same way."""
        perm = self.weight.perm
        return (perm[1], perm[0], *perm[2:]) if self.form.input_first else perm


def candidate_of(layer: Layer) -> Candidate:
    """Return the candidate for a dense layer with a constant weight.

    Raises
    ------
    ValueError
        The layer's weight is not constant.
    """
    form, weight = match(layer.node)
    if weight is None:
        raise ValueError(f"layer '{layer.name}': expected a dense constant weight, got none.")
    return Candidate(layer, form, weight)


def stay_dense(candidates: Sequence[Candidate]) -> dict[Candidate, str]:
    """Return the candidates whose weight cannot be changed for all its readers alike, each with the reason."""
    by_root: dict[ir.Value, list[Candidate]] = {}
    for candidate in candidates:
        by_root.setdefault(candidate.weight.root, []).append(candidate)
    reasons: dict[Candidate, str] = {}
    for root, users in by_root.items():
        nodes = {candidate.layer.node for candidate in users}
        others = [reader for reader in _readers(root) if reader not in nodes]
        if others:
            reason = f"its weight is also {_describe(others[0])}, which needs it as it is"
        elif len({candidate.orientation for candidate in users}) > 1:
            reason = "its weight is shared by layers that read it in different orientations"
        else:
            continue
        reasons |= dict.fromkeys(users, reason)
    return reasons


def _readers(value: ir.Value) -> Iterator[ir.Node | None]:
    """Yield every node that reads a constant, through links; None for a graph output."""
    values = [value]
    while values:
        here = values.pop()
        if here.is_graph_output():
            yield None
        for node in here.consumers():
            if node.domain == "" and node.op_type in LINKS and node.inputs[0] is here:
                values.append(node.outputs[0])
            else:
                yield node


def _describe(reader: ir.Node | None) -> str:
    if reader is None:
        return "an output of the graph"
    return f"read by '{reader.name or reader.op_type}'"
