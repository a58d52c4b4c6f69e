"""From figures to decisions, in words."""

from collections.abc import Mapping, Sequence

from sparse_rt.plan.decisions import LayerDecision
from sparse_rt.plan.report import Trial
from sparse_rt.tuning.measure_layer import ONNXRUNTIME

__all__ = ["HOSTED", "PLAN", "TUNED", "decide_hosted", "decide_layer", "decide_whole", "fastest_plan"]

#: The plan that every layer's sparse kernel is part of, and the one that follows the measurements of layers.
PLAN, TUNED = "plan", "tuned plan"
#: The plan whose kernels run as operators inside one session of onnxruntime.
HOSTED = "hosted"
#: How many times as fast a dense kernel of ours, or onnxruntime, must be to be taken; less is noise.
_LAYER_MARGIN = 1.05
#: How many times as fast a plan with other decisions must be. (onnxruntime as a whole need only be faster: readings of
#: the same thing differ by a few percent, and none of them shall end 5 % behind.)
_TUNED_MARGIN = 1.01


def decide_layer(sparse: str, pattern: str, n: int, tried: Sequence[Trial], hand_over: float) -> LayerDecision:
    """Return how a layer runs.

    Parameters
    ----------
    sparse
        Name of its sparse kernel, which is one of the candidates.
    pattern
        What its weight holds.
    n
        Its output channels.
    tried
        What was measured.
    hand_over
        Microseconds that onnxruntime costs beside the layer's own time; 0 for a layer that is next to its nodes.
    """
    times = {trial.candidate: trial.microseconds for trial in tried}
    own = times[sparse]
    dense = {name: time for name, time in times.items() if name not in (sparse, ONNXRUNTIME)}
    stock = times.get(ONNXRUNTIME)
    best = min(dense, key=lambda name: dense[name], default=sparse)
    chosen = best if best != sparse and times[best] * _LAYER_MARGIN < own else sparse
    found = tuple(tried)
    if stock is not None and (stock + hand_over) * _LAYER_MARGIN < times[chosen]:
        beside = f" and {hand_over:.0f} us to hand over" if hand_over else ""
        return LayerDecision(
            None, f"kept dense: measured {own:.4g} us sparse, {stock:.4g} us in onnxruntime{beside}", found
        )
    if chosen != sparse:
        figures = f"{own:.4g} us against {times[chosen]:.4g} us on {chosen}"
        return LayerDecision(chosen, f"kept dense: n = {n}, selection costs more than it saves ({figures})", found)
    if stock is None:
        return LayerDecision(sparse, f"{pattern} holds; measured {own:.4g} us", found)
    return LayerDecision(
        sparse, f"{pattern} holds; measured {stock / own:.2f} times as fast as onnxruntime ({own:.4g} us)", found
    )


def fastest_plan(times: Mapping[str, float]) -> str:
    """Return which whole plan to run, given the seconds of each: ours unless onnxruntime is faster."""
    chosen = PLAN
    for other in (TUNED, HOSTED):
        if other in times and times[other] * _TUNED_MARGIN < times[chosen]:
            chosen = other
    if ONNXRUNTIME in times and times[ONNXRUNTIME] < times[chosen]:
        chosen = ONNXRUNTIME
    return chosen


def decide_whole(times: Mapping[str, float]) -> str | None:
    """Return why onnxruntime runs the whole model, None if our plan does."""
    if fastest_plan(times) != ONNXRUNTIME:
        return None
    ours = min(time for name, time in times.items() if name != ONNXRUNTIME)
    return f"kept dense: whole model measured {times[ONNXRUNTIME] / ours:.2f} of onnxruntime's speed"


def decide_hosted(times: Mapping[str, float]) -> str | None:
    """Return why kernels run inside one session of onnxruntime, None if they do not."""
    if fastest_plan(times) != HOSTED:
        return None
    apart = min(time for name, time in times.items() if name in (PLAN, TUNED))
    return f"inside onnxruntime: whole model measured {apart / times[HOSTED]:.2f} times as fast as apart from it"
