"""Decide about whole plans: as it is, as its single layers suggest, hosted, or all of it in onnxruntime."""

import contextlib
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from sparse_rt_kernels.threads.pool import ThreadPool

from sparse_rt.errors import SparseRTWarning, message
from sparse_rt.plan.decisions import Decisions, LayerDecision
from sparse_rt.plan.plan import Plan
from sparse_rt.plan.report import LayerReport, Trial
from sparse_rt.plan.steps.step import Environment
from sparse_rt.tuning.decide import HOSTED, PLAN, TUNED, decide_hosted, decide_layer, decide_whole, fastest_plan
from sparse_rt.tuning.measure import Measure, quiet
from sparse_rt.tuning.measure_layer import ONNXRUNTIME

__all__ = ["UNDER_WAY_HOSTED", "followed", "measure_plan"]

_TURN_SECONDS = 0.03
#: Seconds of a run without islands up to which a hosted plan is tried: its runs have some 4 us less of Python.
_SHORT_RUN = 4e-4
#: The reason in a plan that onnxruntime runs whole, or hosts, until it is known by how much that is faster.
_UNDER_WAY = "kept dense"
UNDER_WAY_HOSTED = "inside onnxruntime"


def measure_plan(
    plan: Plan,
    decisions: Decisions,
    build: Callable[[Decisions], Plan],
    feeds: Environment,
    pool: ThreadPool,
    measure: Measure,
    seconds: float,
) -> tuple[Plan, Decisions]:
    """Measure whole plans; return the one to run, and the decisions that lead to it.

    Parameters
    ----------
    plan
        With the best sparse kernel for every layer.
    decisions
        What single layers suggest.
    build
        Makes a plan by decisions, its kernels compiled.
    feeds
        For all of them.
    pool, measure, seconds
        To measure with.
    """
    plans = {PLAN: plan}
    outputs = [item.name for item in plan.signature.outputs]
    if followed(plan, decisions) is None:
        try:
            tuned = build(decisions)
            tuned.run(outputs, feeds, pool)
            plans[TUNED] = tuned
        except Exception as error:
            # The plan at hand is right, so this costs speed only; it is an error of sparse_rt all the same.
            fact = f"{type(error).__name__}: {error}"
            text = message("tuning", "a plan by the measurements of layers", fact, "Sparse kernels run; please report.")
            warnings.warn(text, SparseRTWarning, stacklevel=2)
    inside = _inside(plan, decisions)
    if _may_gain(plans, outputs, feeds, pool):
        with contextlib.suppress(Exception):  # as below
            hosted = build(inside)
            hosted.run(outputs, feeds, pool)
            if hosted.is_hosted:
                plans[HOSTED] = hosted
    with contextlib.suppress(Exception):  # what onnxruntime does not load, or run, as a whole cannot win
        whole = build(replace(decisions, whole=_UNDER_WAY))
        whole.run(outputs, feeds, pool)
        plans[ONNXRUNTIME] = whole
    runs: dict[str, Callable[[], object]] = {
        name: partial(_run_as_session, plan, outputs, feeds, pool) for name, plan in plans.items()
    }
    # On one thread no engine has workers that could disturb the next one.
    times = measure(runs, seconds, _TURN_SECONDS, quiet if pool.threads > 1 else None)
    chosen = fastest_plan(times)
    if chosen == PLAN:
        decisions = _as_it_is(plan, decisions)
    elif chosen == HOSTED:
        decisions = inside
    tried = tuple(Trial(name, round(1e6 * found, 2)) for name, found in times.items())
    decisions = replace(decisions, whole=decide_whole(times), hosted=decide_hosted(times), tried=tried)
    return _reported(plans[chosen], decisions), decisions


def _may_gain(plans: Mapping[str, Plan], outputs: Sequence[str], feeds: Environment, pool: ThreadPool) -> bool:
    """Return whether a hosted plan may be faster: there are islands to be spared, or runs are short."""
    if any(plan.islands for plan in plans.values()):
        return True
    start = time.perf_counter()
    plans[PLAN].run(outputs, feeds, pool)
    return time.perf_counter() - start < _SHORT_RUN


def followed(plan: Plan, decisions: Decisions) -> Plan | None:
    """Return `plan` with the reasons of decisions that it follows already, None if it does not."""
    beside = _beside(decisions, plan)
    if (decisions.whole or decisions.hosted) is not None or any(
        decision.kernel != report.kernel for decision, report in beside
    ):
        return None
    return _reported(plan, decisions)


def _run_as_session(plan: Plan, outputs: Sequence[str], feeds: Environment, pool: ThreadPool) -> None:
    """Run a plan with what a session does around it."""
    if plan.stock is not None:
        plan.stock.session.run(outputs, feeds)
    else:
        plan.run(plan.signature.output_names(outputs), plan.signature.checked(feeds), pool)


def _beside(decisions: Decisions, plan: Plan) -> list[tuple[LayerDecision, LayerReport]]:
    """Return each decision with the report of the layer in `plan`."""
    reports = {layer.y: report for layer, report in zip(plan.layers, plan.reports, strict=True)}
    return [(decision, reports[name]) for name, decision in decisions.layers.items()]


def _as_it_is(plan: Plan, decisions: Decisions) -> Decisions:
    """Return the decisions that lead to `plan`, with what was tried."""
    reason = "holds; another way was faster for this layer alone, but not within the whole model"
    kept = [
        decision
        if decision.kernel == report.kernel
        else LayerDecision(report.kernel, f"{report.pattern} {reason}", decision.tried)
        for decision, report in _beside(decisions, plan)
    ]
    return Decisions(dict(zip(decisions.layers, kept, strict=True)))


def _inside(plan: Plan, decisions: Decisions) -> Decisions:
    """Return the decisions for a hosted plan, where leaving a layer to onnxruntime costs nothing beside its time."""
    layers = {}
    for (name, decision), (_, report) in zip(decisions.layers.items(), _beside(decisions, plan), strict=True):
        found = decision
        if report.kernel is not None and report.pattern is not None and decision.tried:
            found = decide_layer(report.kernel, report.pattern, report.shape[0], decision.tried, 0.0)
        layers[name] = found
    return Decisions(layers, hosted=UNDER_WAY_HOSTED)


def _reported(plan: Plan, decisions: Decisions) -> Plan:
    """Return the plan with the reasons and figures of the decisions that it follows."""
    reports = []
    for layer, report in zip(plan.layers, plan.reports, strict=True):
        decision = decisions.of(layer.y)
        is_due = report.reason == _UNDER_WAY or (decisions.whole is None and layer.y in decisions.layers)
        if decisions.hosted is not None and report.kernel is not None:
            reason = report.reason.removesuffix(f"; {UNDER_WAY_HOSTED}")
            found = decision or LayerDecision(report.kernel, reason, report.tried)
            reports.append(layer.report(report.kernel, f"{found.reason}; {decisions.hosted}", found.tried))
        elif decision and is_due and (decisions.hosted is None or decision.kernel is None):
            reports.append(layer.report(report.kernel, decision.reason, decision.tried))
        else:
            reports.append(report)
    return replace(plan, reports=tuple(reports), tried=decisions.tried)
