"""From a model to a plan: find layers, fuse, choose kernels, schedule, open the islands."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
from numpy.typing import NDArray

from sparse_rt import stock
from sparse_rt.empty_pools import POOLS, may_be_empty
from sparse_rt.errors import FeedError, ModelError, message
from sparse_rt.graph import model_io
from sparse_rt.graph.captures import outer_inputs
from sparse_rt.graph.layers.find import find_layers
from sparse_rt.graph.layers.ranks import find_ranks
from sparse_rt.graph.model_io import ModelSource
from sparse_rt.graph.passes.decompress import decompress_model, decompressed_nbytes
from sparse_rt.plan.bind.residual import absorb_additions
from sparse_rt.plan.decisions import Decide, Decisions, Draft
from sparse_rt.plan.islands.dequantise import separate_dequantise
from sparse_rt.plan.islands.island import cut
from sparse_rt.plan.islands.island_threads import island_threads
from sparse_rt.plan.islands.onnxruntime_step import OnnxRuntimeStep, engine_of_file, engine_of_model, open_island
from sparse_rt.plan.islands.schedule import Level, schedule
from sparse_rt.plan.match.choose import choose
from sparse_rt.plan.match.operators import find_operators
from sparse_rt.plan.match.packing import PackedWeights
from sparse_rt.plan.match.replacement import Replacement
from sparse_rt.plan.metadata import ModelMetadata
from sparse_rt.plan.options import SessionOptions
from sparse_rt.plan.plan import Plan
from sparse_rt.plan.prepare.prepare import prepare
from sparse_rt.plan.report import LayerReport
from sparse_rt.plan.signature import NodeArg, Signature, is_exchangeable
from sparse_rt.plan.steps.step import KernelStep, Shape, Step

__all__ = ["build_plan"]

#: A protobuf ends at 2 GiB, and holds more than these weights.
_MOST_DECOMPRESSED = 1 << 30


def _take_sparse_kernels(_: Draft) -> Decisions:
    """Decide nothing."""
    return Decisions()


class _NotExchangeableError(Exception):
    """Islands would have to exchange a value of a type that NumPy lacks; caught in :func:`build_plan`."""


def build_plan(source: ModelSource, options: SessionOptions, decide: Decide = _take_sparse_kernels) -> Plan:
    """Return the plan of a model; `decide` says which layers that a sparse kernel fits shall run otherwise.

    Raises
    ------
    ModelError
        The model cannot be read, or onnxruntime does not load what no kernel runs.
    FormatError
        A compressed weight is corrupt.
    """
    model = prepare(model_io.read(source))
    found = find_layers(model)
    decisions = decide(Draft(model, found))
    decided = {layer: decisions.of(str(layer.y.name)) for layer in found}
    packed = PackedWeights()
    choices = [choose(layer, options.kernel_tier, decided[layer], packed) for layer in found]
    reports = tuple(choice.report for choice in choices)
    signature = _signature(model)
    layers = [choice.replacement for choice in choices if choice.replacement is not None]
    if not layers:
        return replace(_whole(source, model, signature, reports, options), tried=decisions.tried)
    dense = [
        layer
        for layer, choice in zip(found, choices, strict=True)
        if choice.replacement is None and decided[layer] is None
    ]
    ranks = find_ranks(model.graph, found)
    replacements = [*layers, *find_operators(model, layers, dense, options.kernel_tier, ranks)]
    try:
        return replace(_partitioned(model, signature, reports, replacements, options), tried=decisions.tried)
    except _NotExchangeableError as obstacle:
        refused = tuple(replace(report, kernel=None, reason=str(obstacle)) for report in reports)
        return _whole(source, model, signature, refused, options)


def _signature(model: ir.Model) -> Signature:
    graph = model.graph
    defaults = {value.name for value in graph.inputs if value.is_initializer()}
    inputs = tuple(NodeArg.of(value) for value in graph.inputs)
    return Signature(
        inputs=tuple(item for item in inputs if item.name not in defaults),
        overridable=tuple(item for item in inputs if item.name in defaults),
        outputs=tuple(NodeArg.of(value) for value in graph.outputs),
    )


def _whole(
    source: ModelSource,
    model: ir.Model,
    signature: Signature,
    reports: tuple[LayerReport, ...],
    options: SessionOptions,
) -> Plan:
    """Return the plan of a model without sparse layers: all of it is onnxruntime's, as if we were not here."""
    nbytes = decompressed_nbytes(model)
    decompressed = _decompressed(source) if 0 < nbytes < _MOST_DECOMPRESSED else None
    if decompressed is None and (nbytes or stock.misreads(source)):
        return _one_island(model, signature, reports, options)
    bodies = [model.graph.all_nodes(), *(function.all_nodes() for function in model.functions.values())]
    is_watched = may_be_empty(ir.serde.serialize_node(n) for body in bodies for n in body if n.op_type in POOLS)
    if decompressed is not None:
        engine = engine_of_model(decompressed, options.onnxruntime_options, is_watched=is_watched)
    elif isinstance(source, str | os.PathLike):
        engine = engine_of_file(os.fspath(source), options.onnxruntime_options, is_watched=is_watched)
    else:
        folder = str(Path().resolve())

        def native() -> ort.SessionOptions:
            made = options.onnxruntime_options()
            made.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
            return made

        content = source.SerializeToString() if isinstance(source, onnx.ModelProto) else bytes(source)
        engine = engine_of_model(content, native, is_watched=is_watched)
    session = engine.session
    described = {item.name: item for item in (*session.get_inputs(), *session.get_outputs())}

    def native_arg(item: NodeArg) -> NodeArg:
        found = described.get(item.name)
        known = found is not None and (item.has_rank or bool(found.shape))
        return NodeArg(item.name, found.type, list(found.shape), True) if found is not None and known else item

    signature = Signature(signature.inputs, signature.overridable, tuple(map(native_arg, signature.outputs)))
    names = tuple(dict.fromkeys(item.name for item in signature.outputs))
    inputs = tuple(item.name for item in (*signature.inputs, *signature.overridable))
    step = OnnxRuntimeStep(engine, inputs, names, len(model.graph))
    defaults = {item.name: _default(model, item.name) for item in signature.overridable}
    return Plan(signature, (step,), defaults, reports, ModelMetadata.of(model))


def _decompressed(source: ModelSource) -> bytes:
    """Return a compressed model with dense weights.

    onnxruntime would decode them itself, in several times the memory, and keep all until it has loaded.
    """
    content: bytes = model_io.to_proto(decompress_model(model_io.read(source))).SerializeToString()
    return content


def _one_island(
    model: ir.Model, signature: Signature, reports: tuple[LayerReport, ...], options: SessionOptions
) -> Plan:
    """Return the plan of a model that onnxruntime runs, but not from its file: with functions as we write them."""
    try:
        return _partitioned(model, signature, reports, [], options)
    except _NotExchangeableError as obstacle:
        raise ModelError(message("model", "outputs that onnxruntime can hand out", str(obstacle))) from obstacle


def _partitioned(
    model: ir.Model,
    signature: Signature,
    reports: tuple[LayerReport, ...],
    replacements: Sequence[Replacement],
    options: SessionOptions,
) -> Plan:
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
            _require_exchangeable(found)
            known.update({item.name: item for item in found})
            steps.append(step)
        for replacement in level.replacements:
            own = replacement.step
            known[own.y] = _output_type(own, [_shape(known.get(name)) for name in own.inputs])
            steps.append(own)
    outputs = tuple(_described(item, known.get(item.name)) for item in signature.outputs)
    signature = Signature(signature.inputs, signature.overridable, outputs)
    constants = _constants(model, steps)
    shapes = {name: shape for name, item in known.items() if (shape := _fixed(item)) is not None}
    frozen = absorb_additions(steps, shapes, [item.name for item in outputs])
    return Plan(signature, frozen, constants, reports, ModelMetadata.of(model), shapes)


def _require_exchangeable(values: Sequence[NodeArg]) -> None:
    for item in values:
        if not is_exchangeable(item.type):
            raise _NotExchangeableError(f"'{item.name}' is a {item.type}, which onnxruntime cannot hand to other steps")


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


def _fixed(item: NodeArg | None) -> tuple[int, ...] | None:
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


def _described(item: NodeArg, inferred: NodeArg | None) -> NodeArg:
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
        name: _default(model, name)
        for name, value in model.graph.initializers.items()
        if name in wanted or value.is_graph_input()
    }


def _default(model: ir.Model, name: str) -> NDArray[Any]:
    """Return a copy of an initializer, so that the file or protobuf it came from can go."""
    tensor = model.graph.initializers[name].const_value
    if tensor is None:
        raise ModelError(message(f"initializer '{name}'", "a value", "none"))
    return np.array(tensor.numpy())
