"""Compose the model of a hosted plan, and open it."""

import weakref
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import onnx
import onnx_ir as ir

from sparse_rt.empty_pools import may_be_empty
from sparse_rt.errors import ConfigError
from sparse_rt.plan.bind.segment import Segment
from sparse_rt.plan.hosted.arrange import Nodes, arranged, can_be_operator
from sparse_rt.plan.hosted.host import ATTRIBUTE, DOMAIN, OPERATORS, Host
from sparse_rt.plan.hosted.hosted_step import HostedStep, hosted_engine
from sparse_rt.plan.hosted.sizes import is_native, stand_ins, types_of_values
from sparse_rt.plan.islands.island import Island, Piece, compose, declaration
from sparse_rt.plan.islands.partition import Partition, default, described, fixed_shape
from sparse_rt.plan.match.replacement import Replacement
from sparse_rt.plan.options import SessionOptions
from sparse_rt.plan.signature import NodeArg, Signature, is_exchangeable
from sparse_rt.protos import node_lists

__all__ = ["hosted"]


def hosted(
    model: ir.Model, signature: Signature, replacements: Sequence[Replacement], options: SessionOptions, host: Host
) -> Partition | None:
    """Return a model as one step: a session of onnxruntime's in which segments of ours are operators.

    None where there is nothing of ours to be run so, where onnxruntime could not hand the outputs out, and on systems
    for which there is no library of operators.

    Parameters
    ----------
    model
        Changed: each of onnxruntime's readers of a DequantizeLinear gets its own.
    replacements
        What kernels can compute. Those without a native call are left to onnxruntime.

    Raises
    ------
    ModelError
        onnxruntime does not load it.
    """
    if not _has_library(host):
        return None
    types = types_of_values(model, signature)
    shapes = stand_ins(types.values())
    native = [each for each in replacements if is_native(each.step, shapes) and can_be_operator(each.step)]
    parts = arranged(model.graph, native, shapes, is_one_by_one=options.enable_profiling)
    written = {name for part in parts for name in part.outputs}
    outputs = tuple(described(item, types.get(item.name)) for item in signature.outputs)
    if not any(isinstance(part, Segment) for part in parts) or not all(
        item.name in written and is_exchangeable(item.type) for item in outputs
    ):
        return None
    composed = _composed(model, signature, parts, types)
    if may_be_empty(node for nodes in node_lists(composed.island.model) for node in nodes):
        return None  # onnxruntime is asked about such a model beforehand, and it does not know our operators
    step = _opened(composed, options, host)
    defaults = {item.name: default(model, item.name) for item in signature.overridable}
    known = {name: shape for name, item in types.items() if (shape := fixed_shape(item)) is not None}
    return Partition(Signature(signature.inputs, signature.overridable, outputs), (step,), defaults, known)


def _has_library(host: Host) -> bool:
    try:
        host.get_library_path()
    except ConfigError:
        return False
    return True


class _Composed(NamedTuple):
    """A model, and the segments in it, by the names of their nodes, which await the segments' numbers."""

    island: Island
    segments: Mapping[str, Segment]


def _composed(
    model: ir.Model, signature: Signature, parts: Sequence[Nodes | Segment], types: Mapping[str, NodeArg]
) -> _Composed:
    values = _values(model.graph)
    segments: dict[str, Segment] = {}
    pieces: list[Piece] = []
    for part in parts:
        if isinstance(part, Nodes):
            pieces.extend(map(Piece.of, part.nodes))
            continue
        name = _name(part, segments)
        segments[name] = part
        operator = OPERATORS[part.steps[-1].y_dtype.name]
        node = onnx.helper.make_node(operator, part.inputs, part.outputs, name=name, domain=DOMAIN)
        pieces.append(Piece(node, [values[each] for each in part.inputs], [values[each] for each in part.outputs]))
    wanted = dict.fromkeys(values[item.name] for item in signature.outputs)
    island = compose(model, pieces, list(wanted), types)
    graph = island.model.graph
    fed = [*signature.inputs, *signature.overridable]
    graph.input.extend(declaration(item.name, item) for item in fed if item.name not in island.inputs)
    # onnxruntime knows nothing of the shapes that operators of others write.
    graph.value_info.extend(
        declaration(name, types[name])
        for segment in segments.values()
        for name in segment.outputs
        if name in types and types[name].type
    )
    island.model.opset_import.append(onnx.helper.make_opsetid(DOMAIN, 1))
    inputs = tuple(item.name for item in fed)
    return _Composed(Island(island.model, inputs, island.outputs, island.external), segments)


def _values(graph: ir.Graph) -> dict[str, ir.Value]:
    inner = (value for node in graph for value in node.outputs)
    return {str(value.name): value for value in (*graph.inputs, *graph.initializers.values(), *inner)}


def _name(segment: Segment, taken: Iterable[str]) -> str:
    """Return a name for the node of a segment: that of its step, or of its first and last one."""
    first, last = (str(getattr(step, "name", "")) or step.y for step in (segment.steps[0], segment.steps[-1]))
    name = first if len(segment.steps) == 1 else f"{first} to {last}"
    return name if name not in taken else f"{name} ({segment.outputs[0]})"


def _opened(composed: _Composed, options: SessionOptions, host: Host) -> HostedStep:
    island, segments = composed
    numbers: list[int] = []
    try:
        for node in island.model.graph.node:
            if node.domain == DOMAIN:
                numbers.append(host.register(segments[node.name], options.threads))
                node.attribute.append(onnx.helper.make_attribute(ATTRIBUTE, numbers[-1]))
        engine = hosted_engine(island, options, host)
    except BaseException:
        _forget(host, numbers)
        raise
    step = HostedStep(
        engine, island.inputs, island.outputs, len(island.model.graph.node), segments, island, options, host
    )
    weakref.finalize(engine, _forget, host, numbers)
    return step


def _forget(host: Host, numbers: Sequence[int]) -> None:
    for number in numbers:
        host.unregister(number)
