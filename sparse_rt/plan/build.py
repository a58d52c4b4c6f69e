"""From a model to a plan: find layers, fuse, choose kernels, schedule, open the islands."""

from collections.abc import Sequence
from dataclasses import replace

import onnx_ir as ir

from sparse_rt.graph import model_io
from sparse_rt.graph.layers.find import find_layers
from sparse_rt.graph.layers.ranks import find_ranks
from sparse_rt.graph.model_io import ModelSource
from sparse_rt.plan.bind.check import check_steps
from sparse_rt.plan.bind.residual import absorb_additions
from sparse_rt.plan.decisions import Decisions
from sparse_rt.plan.draft import Decide, Draft
from sparse_rt.plan.hosted.compose import hosted
from sparse_rt.plan.hosted.host import Host
from sparse_rt.plan.hosted.hosted_step import HostedStep
from sparse_rt.plan.islands.partition import Obstacle, Partition, partition
from sparse_rt.plan.islands.whole import whole
from sparse_rt.plan.match.choose import Choice, choose
from sparse_rt.plan.match.operators import find_operators
from sparse_rt.plan.match.packing import PackedWeights
from sparse_rt.plan.match.replacement import Replacement
from sparse_rt.plan.metadata import ModelMetadata
from sparse_rt.plan.options import SessionOptions
from sparse_rt.plan.plan import Plan
from sparse_rt.plan.prepare.prepare import prepare
from sparse_rt.plan.signature import NodeArg, Signature
from sparse_rt.plan.steps.sparse_step import SparseStep

__all__ = ["build_plan"]


def _take_sparse_kernels(_: Draft) -> Decisions:
    """Decide nothing."""
    return Decisions()


def build_plan(
    source: ModelSource, options: SessionOptions, decide: Decide = _take_sparse_kernels, host: Host | None = None
) -> Plan:
    """Return the plan of a model.

    Parameters
    ----------
    source, options
        The model, and how it runs.
    decide
        Says which layers that a sparse kernel fits shall run otherwise, and in what kind of plan.
    host
        What runs kernels inside onnxruntime, for plans that are hosted.

    Raises
    ------
    ModelError
        The model cannot be read, or onnxruntime does not load what no kernel runs.
    FormatError
        A compressed weight is corrupt.
    """
    model = prepare(model_io.read(source))
    draft = Draft(model, find_layers(model))
    decisions = decide(draft)
    packed = PackedWeights()
    choices = [
        choose(layer, draft.fusion, options.kernel_tier, decisions.of(str(layer.y.name)), packed)
        for layer in draft.layers
    ]
    signature = _signature(model)
    found: Partition | Obstacle | None = None
    if any(choice.replacement is not None for choice in choices):
        replacements = _replacements(draft, choices, decisions, options)
        if decisions.hosted is not None and host is not None:
            found = hosted(model, signature, replacements, options, host)
            if found is not None:
                choices = [_as_hosted(choice, found, decisions.hosted) for choice in choices]
        found = found or _parted(model, replacements, signature, options)
    if isinstance(found, Obstacle):
        choices = [Choice(choice.layer, choice.facts, found.reason, tried=choice.tried) for choice in choices]
    if not isinstance(found, Partition):
        found = whole(source, model, signature, options)
    return Plan(
        found.signature,
        found.steps,
        found.constants,
        tuple(choice.facts for choice in choices),
        tuple(choice.facts.report(choice.kernel, choice.reason, choice.tried) for choice in choices),
        ModelMetadata.of(model),
        found.shapes,
        decisions.tried,
    )


def _replacements(
    draft: Draft, choices: Sequence[Choice], decisions: Decisions, options: SessionOptions
) -> list[Replacement]:
    """Return what kernels compute: layers, and the operators between them."""
    model = draft.model
    layers = [choice.replacement for choice in choices if choice.replacement is not None]
    dense = [
        choice.layer
        for choice in choices
        if choice.replacement is None and decisions.of(str(choice.layer.y.name)) is None
    ]
    ranks = find_ranks(model.graph, draft.layers)
    operators = find_operators(model.graph, layers, dense, draft.fusion, options.kernel_tier, ranks)
    return [*layers, *operators]


def _parted(
    model: ir.Model, replacements: Sequence[Replacement], signature: Signature, options: SessionOptions
) -> Partition | Obstacle:
    """Return the steps of a model, of which kernels compute `replacements`."""
    found = partition(model, signature, replacements, options)
    if isinstance(found, Obstacle):
        return found
    outputs = [item.name for item in found.signature.outputs]
    check_steps(found.steps, {*found.constants, *found.signature.fed}, outputs)
    return replace(found, steps=absorb_additions(found.steps, found.shapes, outputs))


def _as_hosted(choice: Choice, found: Partition, why: str) -> Choice:
    """Return a choice as it is in a hosted plan, in which some layers that a kernel fits are onnxruntime's."""
    step = None if choice.replacement is None else choice.replacement.step
    if not isinstance(step, SparseStep):
        return choice
    running = (each for whole in found.steps if isinstance(whole, HostedStep) for each in whole.kernel_steps)
    if any(isinstance(each, SparseStep) and each.packed is step.packed and each.name == step.name for each in running):
        return replace(choice, reason=f"{choice.reason}; {why}")
    reason = "kept dense: its kernel needs more than shapes to be called, which an operator inside onnxruntime has not"
    return Choice(choice.layer, choice.facts, reason, tried=choice.tried)


def _signature(model: ir.Model) -> Signature:
    graph = model.graph
    defaults = {value.name for value in graph.inputs if value.is_initializer()}
    inputs = tuple(NodeArg.of(value) for value in graph.inputs)
    return Signature(
        inputs=tuple(item for item in inputs if item.name not in defaults),
        overridable=tuple(item for item in inputs if item.name in defaults),
        outputs=tuple(NodeArg.of(value) for value in graph.outputs),
    )
