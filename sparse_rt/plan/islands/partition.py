"""Part a model between steps of ours and islands of onnxruntime's, and open these."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from sparse_rt.errors import FeedError, ModelError, message
from sparse_rt.graph.reads import outer_inputs
from sparse_rt.plan.islands.dequantise import separate_dequantise
from sparse_rt.plan.islands.island import cut
from sparse_rt.plan.islands.island_threads import island_threads
from sparse_rt.plan.islands.onnxruntime_step import open_island
from sparse_rt.plan.islands.schedule import Level, schedule
from sparse_rt.plan.match.replacement import Replacement
from sparse_rt.plan.options import SessionOptions
from sparse_rt.plan.signature import NodeArg, Signature, is_exchangeable
from sparse_rt.plan.steps.step import KernelStep, Shape, Step

__all__ = ["Obstacle", "Partition", "default", "described", "fixed_shape", "partition"]


@dataclass(frozen=True)
class Obstacle:
    """Why islands and steps cannot run a model together, in words for the reports."""

    reason: str


@dataclass(frozen=True, eq=False)
class Partition:
    """A model as steps.

    Attributes
    ----------
    signature
        Completed by the types that onnxruntime inferred.
    steps
        In order of execution.
    constants
        Values that steps or callers read without a step writing them.
    shapes
        Of the values whose shape is the same in every run, as far as they are known.
    """

    signature: Signature
    steps: tuple[Step, ...]
    constants: Mapping[str, NDArray[Any]]
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


def partition(
    model: ir.Model, signature: Signature, replacements: Sequence[Replacement], options: SessionOptions
) -> Partition | Obstacle:
    """Return the steps of a model, some of which are `replacements`; onnxruntime runs what they do not compute.

    Parameters
    ----------
    model
        Changed: each reader of a DequantizeLinear gets its own.

    Raises
    ------
    ModelError
        onnxruntime does not load an island, or shapes do not fit each other.
    """
    separate_dequantise(model.graph, [node for replacement in replacements for node in replacement.absorbed])
    levels = schedule(model.graph, replacements)
    leaving = _leaving(model, levels)
    known = {item.name: item for item in (*signature.inputs, *signature.overridable)}
    steps: list[Step] = []
    threads = island_threads([level.nodes for level in levels], options.threads)
    for number, level in enumerate(levels):
        if level.nodes:
            # Threads by onnxruntime's own default are options that name none.
            wanted = 1 if threads[number] == 1 else None
            step = open_island(cut(model, level.nodes, leaving[number], known), options, wanted)
            found = step.output_types()
            obstacle = _obstacle(found)
            if obstacle is not None:
                return obstacle
            known.update({item.name: item for item in found})
            steps.append(step)
        for replacement in level.replacements:
            own = replacement.step
            known[own.y] = _output_type(own, [_shape(known.get(name)) for name in own.inputs])
            steps.append(own)
    outputs = tuple(described(item, known.get(item.name)) for item in signature.outputs)
    shapes = {name: shape for name, item in known.items() if (shape := fixed_shape(item)) is not None}
    completed = Signature(signature.inputs, signature.overridable, outputs)
    return Partition(completed, tuple(steps), _constants(model, steps), shapes)


def default(model: ir.Model, name: str) -> NDArray[Any]:
    """Return a copy of an initializer, so that the file or protobuf it came from can go."""
    tensor = model.graph.initializers[name].const_value
    if tensor is None:
        raise ModelError(message(f"initializer '{name}'", "a value", "none"))
    return np.array(tensor.numpy())


def _obstacle(values: Sequence[NodeArg]) -> Obstacle | None:
    """Return which value of an island NumPy has no type for."""
    for item in values:
        if not is_exchangeable(item.type):
            return Obstacle(f"'{item.name}' is a {item.type}, which onnxruntime cannot hand to other steps")
    return None


def _leaving(model: ir.Model, levels: Sequence[Level]) -> list[list[ir.Value]]:
    """Return for each island its values that later steps or the caller read."""
    read = set(model.graph.outputs)
    found: list[list[ir.Value]] = []
    for level in reversed(levels):
        read.update(value for replacement in level.replacements for value in replacement.reads)
        found.append([value for node in level.nodes for value in node.outputs if value in read])
        read.update(value for node in level.nodes for value in outer_inputs(node))
    found.reverse()
    return found


def fixed_shape(item: NodeArg | None) -> tuple[int, ...] | None:
    """Return a value's shape if all its sizes are known."""
    if item is None or not item.shape:
        return None
    sizes = tuple(size for size in item.shape if isinstance(size, int))
    return sizes if len(sizes) == len(item.shape) else None


def _shape(item: NodeArg | None) -> Shape | None:
    """Return what is known of a value's shape."""
    if item is None or not item.shape:
        return None
    return tuple(size if isinstance(size, int) else None for size in item.shape)


def _output_type(step: KernelStep, shapes: Sequence[Shape | None]) -> NodeArg:
    """Return type and shape of a step's output; sizes that are not plain numbers are dropped."""
    names = {"float32": "float"}
    kind = f"tensor({names.get(step.y_dtype.name, step.y_dtype.name)})"
    try:
        shape = step.output_shape(shapes)
    except FeedError as error:
        remedy = "No input of this model can be run."
        raise ModelError(message("model", "shapes that fit each other", str(error).rstrip("."), remedy)) from error
    return NodeArg(step.y, kind, list(shape or ()), shape is not None)


def described(item: NodeArg, inferred: NodeArg | None) -> NodeArg:
    """Return a declared output, completed by what was inferred."""
    if inferred is None or (item.type and item.has_rank):
        return item
    return NodeArg(
        item.name,
        item.type or inferred.type,
        *((item.shape, True) if item.has_rank else (inferred.shape, inferred.has_rank)),
    )


def _constants(model: ir.Model, steps: Sequence[Step]) -> dict[str, NDArray[Any]]:
    """Return the initializers that steps read as values, or that are outputs or overridable inputs."""
    wanted = {name for step in steps for name in step.inputs}
    wanted.update(str(value.name) for value in model.graph.outputs)
    return {
        name: default(model, name)
        for name, value in model.graph.initializers.items()
        if name in wanted or value.is_graph_input()
    }
