"""Which steps of a model become which operators of onnxruntime's, and in which order they and its own nodes stand."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from sparse_rt.graph.reads import outer_inputs
from sparse_rt.plan.bind.residual import absorb_additions
from sparse_rt.plan.bind.segment import Segment, segmented
from sparse_rt.plan.hosted.host import MOST_VALUES, OPERATORS
from sparse_rt.plan.islands.dequantise import separate_dequantise
from sparse_rt.plan.islands.schedule import schedule
from sparse_rt.plan.match.replacement import Replacement
from sparse_rt.plan.steps.sparse_step import SparseStep
from sparse_rt.plan.steps.step import BindableStep, KernelStep, can_be_bound

__all__ = ["Nodes", "arranged", "can_be_operator", "cut_by_type"]


@dataclass(frozen=True, eq=False, slots=True)
class Nodes:
    """Nodes that onnxruntime runs, in topological order; none where a row of steps is cut."""

    nodes: tuple[ir.Node, ...] = ()

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the values that they read."""
        return tuple(str(value.name) for node in self.nodes for value in outer_inputs(node))

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the values that they write."""
        return tuple(str(value.name) for node in self.nodes for value in node.outputs)


def arranged(
    graph: ir.Graph,
    replacements: Sequence[Replacement],
    shapes: Mapping[str, tuple[int, ...]],
    *,
    is_one_by_one: bool = False,
) -> list[Nodes | Segment]:
    """Return nodes and segments in topological order.

    Each segment has a layer, and writes values of one type. Other operators stay onnxruntime's: there is nothing to be
    won by leaving its own for ours.

    Parameters
    ----------
    graph
        Changed: each of onnxruntime's readers of a DequantizeLinear gets its own.
    replacements
        Each has a native call.
    shapes
        Those of :func:`sparse_rt.plan.hosted.sizes.stand_ins`.
    is_one_by_one
        Whether each step is a segment of its own, so that a profile tells them apart.
    """
    kept = list(replacements)
    while True:
        parts = _parts(graph, kept, shapes)
        alone = {step.y for part in parts if isinstance(part, Segment) and not _has_layer(part) for step in part.steps}
        if not alone:
            break
        kept = [replacement for replacement in kept if replacement.step.y not in alone]
    separate_dequantise(graph, [node for replacement in kept for node in replacement.absorbed])
    return _parts(graph, kept, shapes, is_one_by_one=is_one_by_one)


def can_be_operator(step: KernelStep) -> bool:
    """Return whether there is an operator for a step by itself."""
    return step.y_dtype.name in OPERATORS and len(step.inputs) <= MOST_VALUES


def _has_layer(segment: Segment) -> bool:
    return any(isinstance(step, SparseStep) for step in segment.steps)


def _parts(
    graph: ir.Graph,
    replacements: Sequence[Replacement],
    shapes: Mapping[str, tuple[int, ...]],
    *,
    is_one_by_one: bool = False,
) -> list[Nodes | Segment]:
    outputs = [str(value.name) for value in graph.outputs]
    steps: list[Nodes | KernelStep] = []
    for level in schedule(graph, replacements):
        if level.nodes:
            steps.append(Nodes(tuple(level.nodes)))
        steps.extend(replacement.step for replacement in level.replacements)
    row = cut_by_type(absorb_additions(steps, shapes, outputs), outputs, is_one_by_one=is_one_by_one)
    return [part for part in segmented(row, outputs, shapes) if isinstance(part, Nodes | Segment)]


def cut_by_type(
    parts: Sequence[Nodes | KernelStep], wanted: Collection[str], *, is_one_by_one: bool = False
) -> list[Nodes | KernelStep]:
    """Return `parts` with a cut, nodes that are none, wherever a row of steps would write values of two types.

    A row goes on for as long as what others read of it is of one type, and is not more than an operator can have, or
    has one step. `wanted` are names of values that callers may ask for.
    """
    last = {name: number for number, part in enumerate(parts) for name in part.inputs}
    last.update(dict.fromkeys(wanted, len(parts)))
    found: list[Nodes | KernelStep] = []
    start = 0
    while start < len(parts):
        if not can_be_bound(parts[start]):
            found.append(parts[start])
            start += 1
            continue
        end = start + 1 if is_one_by_one else _end(parts, start, last)
        found.extend((*parts[start:end], Nodes()))
        start = end
    return found


def _end(parts: Sequence[Nodes | KernelStep], start: int, last: Mapping[str, int]) -> int:
    """Return where the longest row of steps ends that begins at `start` and can be one operator."""
    end = start + 1
    row: list[BindableStep] = []
    for number in range(start, len(parts)):
        part = parts[number]
        if not can_be_bound(part):
            break
        row.append(part)
        written = {step.y: step.y_dtype.name for step in row}
        read = {name for step in row for name in step.inputs if name not in written}
        left = [dtype for name, dtype in written.items() if last.get(name, -1) > number]
        if len(set(left)) == 1 and left[0] in OPERATORS and max(len(left), len(read)) <= MOST_VALUES:
            end = number + 1
    return end
