"""From a model to the plan that measurements favour."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from sparse_rt_kernels.parallel import ThreadPool

from sparse_rt.errors import SparseRTError
from sparse_rt.feeds import random_feeds
from sparse_rt.graph.layer import Layer
from sparse_rt.graph.model_io import ModelSource
from sparse_rt.plan.build import build_plan
from sparse_rt.plan.fuse import fuse
from sparse_rt.plan.onnxruntime_step import OnnxRuntimeStep
from sparse_rt.plan.options import SessionOptions
from sparse_rt.plan.plan import Plan
from sparse_rt.plan.report import Trial
from sparse_rt.plan.sparse_step import SparseStep
from sparse_rt.plan.step import Environment
from sparse_rt.plan.tuning import records
from sparse_rt.plan.tuning.decisions import Decisions, Draft, LayerDecision
from sparse_rt.plan.tuning.default import estimated_decisions
from sparse_rt.plan.tuning.hand_over import hand_over_microseconds
from sparse_rt.plan.tuning.judge import PLAN, TUNED, fastest_plan, judge_layer, judge_whole
from sparse_rt.plan.tuning.keys import layer_key, model_key, surroundings
from sparse_rt.plan.tuning.layer_race import ONNXRUNTIME, race_layer
from sparse_rt.plan.tuning.observe import Input, layer_inputs
from sparse_rt.plan.tuning.race import Race, quiet, race
from sparse_rt.plan.tuning.store import Store
from sparse_rt.plan.warm_up import warm_up

__all__ = ["tuned_plan"]

_LAYER_TURN_SECONDS = 0.001
_PLAN_TURN_SECONDS = 0.03
#: Share of the time that goes to single layers.
_LAYERS_SHARE = 0.5


def tuned_plan(source: ModelSource, options: SessionOptions, pool: ThreadPool, timer: Race | None = None) -> Plan:
    """Return the plan of a model, its kernels compiled, as measurements favour it.

    Measurements that were kept are believed; what they do not cover is measured if `options.tuning` says so, or else
    estimated.

    Parameters
    ----------
    source, options
        As of :func:`sparse_rt.plan.build.build_plan`.
    pool
        Of the session.
    timer
        Takes the place of :func:`sparse_rt.plan.tuning.race.race`, for tests.
    """
    tuner = _Tuner(source, options, pool, timer)
    plan = build_plan(source, options, tuner.first_decisions)
    warm_up(plan, pool)
    return tuner.improved(plan)


class _Tuner:
    """What is known while one model is tuned."""

    def __init__(self, source: ModelSource, options: SessionOptions, pool: ThreadPool, timer: Race | None) -> None:
        self._source = source
        self._options = options
        self._pool = pool
        self._race: Race = race if timer is None else timer
        self._seconds_for_layers = self._share = _LAYERS_SHARE * options.tuning_seconds
        self._store = Store()
        self._around = surroundings(options)
        self._draft: Draft | None = None
        self._key: dict[str, Any] = {}

    def first_decisions(self, draft: Draft) -> Decisions:
        """Return what was measured before, or an estimate; nothing where measurements will follow."""
        mode = self._options.tuning_mode
        if mode == "sparse" or not any(layer.reason is None for layer in draft.layers):
            return Decisions()
        if mode != "off":
            self._key = {**self._around, **model_key(draft)}
            known = records.decisions(self._store.read("model", self._key))
            if known is not None:
                return known
        if mode == "on":
            self._draft = draft
            return Decisions()
        return estimated_decisions(draft)

    def improved(self, plan: Plan) -> Plan:
        """Return a plan no slower than `plan`, as far as measurements can tell."""
        draft, self._draft = self._draft, None
        if draft is None or not plan.is_sparse:
            return plan
        feeds = _known_feeds(plan)
        if feeds is None:
            return plan
        try:
            inputs = layer_inputs(plan.steps, {**plan.constants, **feeds}, self._pool)
        except Exception:  # random feeds may be no legal ones; then nothing can be measured
            return plan
        decisions = self._layers(draft, plan, inputs)
        improved = self._contest(draft.layers, plan, decisions, feeds)
        warm_up(improved, self._pool)
        return improved

    def _layers(self, draft: Draft, plan: Plan, inputs: Mapping[str, Mapping[str, Input]]) -> Decisions:
        """Measure every kind of layer once; what the time does not suffice for keeps its sparse kernel."""
        layers = [(layer, step, inputs[step.y]) for layer, step in _sparse_layers(draft, plan)]
        keys = [{**self._around, **layer_key(*found)} for found in layers]
        kept = [records.trials(self._store.read("layer", key)) for key in keys]
        kinds = {str(key) for key, tried in zip(keys, kept, strict=True) if not tried}
        measured: dict[str, tuple[Trial, ...]] = {}
        decided: dict[str, LayerDecision] = {}
        for (layer, step, found), key, tried in zip(layers, keys, kept, strict=True):
            kind = str(key)
            if not tried and kind not in measured:
                measured[kind] = self._race_layer(draft, layer, step, found, len(kinds) - len(measured))
                self._store.write("layer", key, records.of_trials(measured[kind]))
            tried = tried or measured[kind]  # noqa: PLW2901
            if any(trial.candidate == step.kernel.name for trial in tried):
                beside = self._hand_over(plan, step, found, tried)
                decided[str(layer.y.name)] = judge_layer(step.kernel.name, layer.shape[0], tried, beside)
        return Decisions(decided)

    def _race_layer(
        self, draft: Draft, layer: Layer, step: SparseStep, inputs: Mapping[str, Input], left: int
    ) -> tuple[Trial, ...]:
        """Time a layer's candidates in its share of the time; with this one, `left` kinds of layers are to come."""
        self._share = self._seconds_for_layers / left
        arrays = {name: item.array() for name, item in inputs.items()}
        return race_layer(draft, layer, step, arrays, self._options, self._pool, self._time_layers)

    def _hand_over(self, plan: Plan, step: SparseStep, inputs: Mapping[str, Input], tried: Sequence[Trial]) -> float:
        """Return what leaving for onnxruntime costs this layer; measured only where it may matter."""
        times = {trial.candidate: trial.microseconds for trial in tried}
        if times.get(ONNXRUNTIME, float("inf")) >= times[step.kernel.name] or _is_beside_island(plan, step):
            return 0.0
        arrays = {name: item.array() for name, item in inputs.items()}
        return hand_over_microseconds(step, arrays, self._options, self._pool, self._time_layers)

    def _contest(self, layers: Sequence[Layer], plan: Plan, decisions: Decisions, feeds: Environment) -> Plan:
        """Race whole plans: as it is, as single layers suggest, all of it in onnxruntime. Keep the decision."""
        plans = {PLAN: plan}
        if _changes(plan, layers, decisions):
            plans[TUNED] = build_plan(self._source, self._options, lambda _: decisions)
            warm_up(plans[TUNED], self._pool)
        try:
            whole = replace(decisions, whole="kept dense")
            plans[ONNXRUNTIME] = build_plan(self._source, self._options, lambda _: whole)
        except SparseRTError:
            pass  # what onnxruntime does not load as a whole cannot win
        times = self._time_plans(plans, feeds)
        chosen = fastest_plan(times)
        tried = tuple(Trial(name, round(1e6 * found, 2)) for name, found in times.items())
        if chosen == PLAN:
            decisions = _without_changes(plan, layers, decisions)
        decisions = replace(decisions, whole=judge_whole(times), tried=tried)
        self._store.write("model", self._key, records.of_decisions(decisions))
        return _reported(plans[chosen], layers, decisions)

    def _time_layers(self, candidates: Mapping[str, Callable[[], object]]) -> dict[str, float]:
        """Time ways to run a layer; what it takes is gone from the time for layers."""
        start = time.perf_counter()
        try:
            return self._race(candidates, max(0.0, self._share), _LAYER_TURN_SECONDS)
        finally:
            self._seconds_for_layers -= time.perf_counter() - start

    def _time_plans(self, plans: Mapping[str, Plan], feeds: Environment) -> dict[str, float]:
        names = [item.name for item in next(iter(plans.values())).signature.outputs]
        runs: dict[str, Callable[[], object]] = {
            name: partial(plan.run, names, feeds, self._pool) for name, plan in plans.items()
        }
        # On one thread no engine has workers that could disturb the next one.
        before = quiet if self._options.threads > 1 else None
        return self._race(runs, (1 - _LAYERS_SHARE) * self._options.tuning_seconds, _PLAN_TURN_SECONDS, before)


def _known_feeds(plan: Plan) -> Environment | None:
    """Return feeds of the declared shapes, None if a size is open."""
    inputs = plan.signature.inputs
    if not all(item.has_rank and all(isinstance(size, int) for size in item.shape) for item in inputs):
        return None
    try:
        return plan.signature.checked(random_feeds(inputs))
    except SparseRTError:
        return None


def _sparse_layers(draft: Draft, plan: Plan) -> list[tuple[Layer, SparseStep]]:
    """Return the layers that steps of the plan run, with their steps.

    A layer that quantises its own input is left out: it is two steps here and one operator in onnxruntime.
    """
    steps = {step.y: step for step in plan.steps if isinstance(step, SparseStep)}
    found = []
    for layer in draft.layers:
        if layer.shape and layer.form != "dynamic":
            step = steps.get(str(fuse(layer, draft.model.ir_version).y.name))
            if step is not None:
                found.append((layer, step))
    return found


def _is_beside_island(plan: Plan, step: SparseStep) -> bool:
    """Return whether onnxruntime runs what comes before or after a step: then it could run the step without a call."""
    islands = [other for other in plan.steps if isinstance(other, OnnxRuntimeStep)]
    return any(step.x in island.outputs or step.y in island.inputs for island in islands)


def _kernels(plan: Plan, layers: Sequence[Layer]) -> dict[str, str | None]:
    """Return the kernel of each layer in a plan, by the name of the value that the layer's operator writes."""
    return {str(layer.y.name): report.kernel for layer, report in zip(layers, plan.reports, strict=True)}


def _changes(plan: Plan, layers: Sequence[Layer], decisions: Decisions) -> bool:
    """Return whether a plan by these decisions would differ."""
    kernels = _kernels(plan, layers)
    return any(decision.kernel != kernels[name] for name, decision in decisions.layers.items())


def _without_changes(plan: Plan, layers: Sequence[Layer], decisions: Decisions) -> Decisions:
    """Return the decisions that lead to `plan`, with what was tried."""
    kernels = _kernels(plan, layers)
    reason = "2:4 holds; another way was faster for this layer alone, but not within the whole model"
    return Decisions(
        {
            name: decision if decision.kernel == kernels[name] else LayerDecision(kernels[name], reason, decision.tried)
            for name, decision in decisions.layers.items()
        }
    )


def _reported(plan: Plan, layers: Sequence[Layer], decisions: Decisions) -> Plan:
    """Return the plan with the reasons and figures of the decisions that it follows."""
    reports = []
    for layer, report in zip(layers, plan.reports, strict=True):
        decision = decisions.of(layer)
        if decision is not None and report.compressed_bytes is not None and decision.kernel == report.kernel:
            report = replace(report, reason=decision.reason, tried=decision.tried)  # noqa: PLW2901
        reports.append(report)
    return replace(plan, reports=tuple(reports), tried=decisions.tried)
