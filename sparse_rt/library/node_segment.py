"""From a node of a file to the segment that its kernel runs: found, fused and chosen as a session does."""

from sparse_rt.graph.layers.find import find_layers
from sparse_rt.graph.layers.ranks import find_ranks
from sparse_rt.library.node import NodeDescription
from sparse_rt.library.node_model import OUTPUT, model_of
from sparse_rt.plan.bind.check import check_steps
from sparse_rt.plan.bind.residual import absorb_additions
from sparse_rt.plan.bind.segment import Segment, segmented
from sparse_rt.plan.draft import Draft
from sparse_rt.plan.estimate import estimated_decisions
from sparse_rt.plan.islands.schedule import schedule
from sparse_rt.plan.match.choose import choose
from sparse_rt.plan.match.operands import Refusal
from sparse_rt.plan.match.operators import find_operators
from sparse_rt.plan.match.packing import PackedWeights
from sparse_rt.plan.prepare.prepare import prepare
from sparse_rt.plan.steps.step import Step

__all__ = ["Refusal", "segment_of"]


def segment_of(node: NodeDescription, tier: str | None = None) -> Segment | Refusal:
    """Return what runs a node: its layer, with the neighbours that the operator holds, in one segment.

    The names of the segment's inputs are those of the operator's.

    Parameters
    ----------
    node
        Its constants may be used in place by what is returned.
    tier
        The most specific tier of kernels to use; None leaves it to the CPU.

    Returns
    -------
    Segment or Refusal
        A refusal where no kernel computes such a layer, or where it is estimated that selecting costs more than it
        saves: :class:`sparse_rt.library.fallback.Fallback` runs the node then.

    Raises
    ------
    ModelError, FormatError
        The node is corrupt, as :func:`sparse_rt.graph.layers.find.find_layers` says it of a file's.
    """
    steps = _steps(node, tier)
    if isinstance(steps, Refusal):
        return steps
    segment, *others = segmented(steps, [OUTPUT], {})
    if others or not isinstance(segment, Segment):
        return Refusal("scales or zero points of an activation are not constant")
    dtypes = {name: dtype for step in segment.steps for name, dtype in zip(step.inputs, step.x_dtypes, strict=True)}
    for name, item in node.inputs.items():
        if dtypes.get(name, item.dtype) != item.dtype:
            return Refusal(f"{name} is {item.dtype}, where the kernel reads {dtypes[name]}")
    return segment


def _steps(node: NodeDescription, tier: str | None) -> tuple[Step, ...] | Refusal:
    """Return the steps that compute a node."""
    model = prepare(model_of(node))
    draft = Draft(model, find_layers(model))
    decisions, packed = estimated_decisions(draft), PackedWeights()
    choices = [choose(each, draft.fusion, tier, decisions.of(str(each.y.name)), packed) for each in draft.layers]
    layers = [choice.replacement for choice in choices if choice.replacement is not None]
    if len(layers) < len(choices):
        return Refusal(next(choice.reason for choice in choices if choice.replacement is None))
    ranks = find_ranks(model.graph, draft.layers)
    operators = find_operators(model.graph, layers, [], draft.fusion, tier, ranks)
    levels = schedule(model.graph, [*layers, *operators])
    left = dict.fromkeys(each.op_type for level in levels for each in level.nodes)
    if left:
        return Refusal(f"no kernel computes {', '.join(left)} along with the layer")
    steps = [replacement.step for level in levels for replacement in level.replacements]
    found = absorb_additions(steps, {}, [OUTPUT])
    check_steps(found, {*node.inputs, *node.constants}, [OUTPUT])
    return found
