"""Order the work of a graph: few large onnxruntime islands, steps of our own between them.

Every task gets a level. Island i computes all onnxruntime nodes of level i, then our own steps of level i run; so
what a node reads must come from an island of its own level or below, or from a step of a level strictly below.
"""

import bisect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from sparse_rt.graph.reads import outer_inputs
from sparse_rt.plan.match.replacement import Replacement

__all__ = ["Level", "Task", "schedule"]


@dataclass(frozen=True, eq=False)
class Task:
    """One node, or one replacement.

    Attributes
    ----------
    inputs
        Values read, captured ones of subgraphs included.
    outputs
        Values written.
    node
        For onnxruntime; None for a replacement.
    replacement
        For a step of our own; None for a node.
    """

    inputs: tuple[ir.Value, ...]
    outputs: tuple[ir.Value, ...]
    node: ir.Node | None = None
    replacement: Replacement | None = None


@dataclass
class Level:
    """One round: an island of nodes (maybe empty), then our own steps in an order that respects their values."""

    nodes: list[ir.Node] = field(default_factory=list)
    replacements: list[Replacement] = field(default_factory=list)


def schedule(graph: ir.Graph, replacements: Sequence[Replacement]) -> list[Level]:
    """Return the levels, in order of execution; nodes whose results nobody needs are left out.

    Parameters
    ----------
    graph
        Of the model.
    replacements
        What steps of our own compute.
    """
    tasks = _live(graph, _tasks(graph, replacements))
    producers = {value: task for task in tasks for value in task.outputs}
    earliest = _earliest(tasks, producers)
    assigned = _assign(tasks, producers, earliest)
    levels = [Level() for _ in range(max(assigned.values(), default=-1) + 1)]
    for task in tasks:
        level = levels[assigned[task]]
        if task.node is not None:
            level.nodes.append(task.node)
        elif task.replacement is not None:
            level.replacements.append(task.replacement)
    return levels


def _tasks(graph: ir.Graph, replacements: Sequence[Replacement]) -> list[Task]:
    """Return all tasks in topological order: a replacement stands where its last absorbed node stood."""
    last = {replacement.absorbed[-1]: replacement for replacement in replacements}
    absorbed = {node for replacement in replacements for node in replacement.absorbed}
    tasks = []
    for node in graph:
        if node in last:
            replacement = last[node]
            tasks.append(Task(replacement.reads, (replacement.y,), replacement=replacement))
        elif node not in absorbed:
            tasks.append(Task(outer_inputs(node), tuple(node.outputs), node=node))
    return tasks


def _live(graph: ir.Graph, tasks: list[Task]) -> list[Task]:
    needed = set(graph.outputs)
    kept = []
    for task in reversed(tasks):
        if any(value in needed for value in task.outputs):
            needed.update(task.inputs)
            kept.append(task)
    kept.reverse()
    return kept


def _earliest(tasks: list[Task], producers: dict[ir.Value, Task]) -> dict[Task, int]:
    levels: dict[Task, int] = {}
    for task in tasks:
        level = 0
        for value in task.inputs:
            producer = producers.get(value)
            if producer is not None:
                # After a step of ours only the next level's island can run.
                after = int(producer.replacement is not None and task.node is not None)
                level = max(level, levels[producer] + after)
        levels[task] = level
    return levels


def _latest(
    tasks: list[Task], producers: dict[ir.Value, Task], pick: Callable[[Task, int], int], last: int
) -> dict[Task, int]:
    """Assign levels from the end backwards; ``pick(task, limit)`` chooses a level of at most `limit`."""
    limits = dict.fromkeys(tasks, last)
    chosen: dict[Task, int] = {}
    for task in reversed(tasks):
        level = chosen[task] = pick(task, limits[task])
        for value in task.inputs:
            producer = producers.get(value)
            if producer is not None:
                before = int(producer.replacement is not None and task.node is not None)
                limits[producer] = min(limits[producer], level - before)
    return chosen


def _assign(tasks: list[Task], producers: dict[ir.Value, Task], earliest: dict[Task, int]) -> dict[Task, int]:
    """Put every node into the latest island that has to exist anyway; make no island that could be spared."""
    last = max(earliest.values(), default=0)
    latest = _latest(tasks, producers, lambda _, limit: limit, last)
    islands = sorted({latest[task] for task in tasks if task.node is not None and earliest[task] == latest[task]})

    def pick(task: Task, limit: int) -> int:
        if task.node is None:
            return limit
        below = bisect.bisect_right(islands, limit)
        if below and islands[below - 1] >= earliest[task]:
            return islands[below - 1]
        islands.insert(below, limit)
        return limit

    return _latest(tasks, producers, pick, last)
