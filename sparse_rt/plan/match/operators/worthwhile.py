"""Which operators that a kernel of ours computes are worth a step: those that make no island where there was none."""

from collections.abc import Sequence

import onnx_ir as ir

from sparse_rt.graph.reads import outer_inputs
from sparse_rt.plan.match.replacement import Replacement

__all__ = ["worthwhile"]


def worthwhile(graph: ir.Graph, layers: Sequence[Replacement], found: Sequence[Replacement]) -> list[Replacement]:
    """Leave out operators, one round after the other, until all that are left are worth a step of their own.

    Only what leaving one out may have changed is looked at again, so that a chain of n costs n looks, not n rounds.
    """
    kept = _Kept(graph, layers, found)
    doubtful = dict.fromkeys(found)
    while doubtful:
        refused = [one for one in doubtful if not kept.is_worthwhile(one)]
        doubtful = dict.fromkeys(other for one in refused for other in kept.leave_out(one))
        for one in refused:
            doubtful.pop(one, None)
    return [one for one in found if one in kept.operators]


class _Kept:
    """The steps that are left, and who reads what."""

    def __init__(self, graph: ir.Graph, layers: Sequence[Replacement], found: Sequence[Replacement]) -> None:
        ours = [*layers, *found]
        self.operators = set(found)
        self._writers = {replacement.y: replacement for replacement in found}
        self._readers: dict[ir.Value, dict[Replacement, None]] = {}
        for replacement in ours:
            for value in replacement.reads:
                self._readers.setdefault(value, {})[replacement] = None
        self._made = {replacement.y for replacement in ours}
        self._absorbed = {node for replacement in ours for node in replacement.absorbed}
        #: Values that somebody needs; and those that nodes outside our steps read, if anybody needs those.
        self._needed = {*graph.outputs, *self._readers}
        self._read_by_onnxruntime: set[ir.Value] = set()
        self._live: set[ir.Node] = set()
        for node in reversed(graph):
            if node not in self._absorbed and not self._needed.isdisjoint(node.outputs):
                self._add_node(node)

    def is_worthwhile(self, one: Replacement) -> bool:
        """Return whether an operator that has a neighbour among our steps makes no island; see `find_operators`."""
        before = all(value in self._made or value.is_graph_input() for value in one.reads)
        after = one.y not in self._read_by_onnxruntime
        touches = any(value in self._made for value in one.reads) or bool(self._readers.get(one.y))
        if one.absorbed[0].op_type == "QuantizeLinear":
            return touches and before
        if one.absorbed[0].op_type == "DequantizeLinear":
            return touches and after
        return touches and (before or after)

    def leave_out(self, one: Replacement) -> list[Replacement]:
        """Give an operator to onnxruntime; return those for which that may matter."""
        self.operators.discard(one)
        self._made.discard(one.y)
        self._absorbed.difference_update(one.absorbed)
        touched = list(self._readers.get(one.y, ()))
        for value in dict.fromkeys(one.reads):
            del self._readers[value][one]
            if value in self._writers:
                touched.append(self._writers[value])
        nodes = [node for node in one.absorbed if not self._needed.isdisjoint(node.outputs)]
        while nodes:
            for value in self._add_node(nodes.pop()):
                if value in self._writers:
                    touched.append(self._writers[value])
                node = value.producer()
                if node is not None and node not in self._absorbed and node not in self._live:
                    nodes.append(node)
        return [other for other in touched if other in self.operators]

    def _add_node(self, node: ir.Node) -> list[ir.Value]:
        """Count a node that somebody needs as onnxruntime's; return the values that only it reads there."""
        self._live.add(node)
        values = [value for value in outer_inputs(node) if value not in self._read_by_onnxruntime]
        self._read_by_onnxruntime.update(values)
        self._needed.update(values)
        return values
