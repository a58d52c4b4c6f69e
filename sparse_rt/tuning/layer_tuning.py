"""Decide about the layers of a plan, each on its own: measure every kind of them once, as far as time allows."""

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sparse_rt_kernels.threads.pool import ThreadPool

from sparse_rt.graph.layers.layer import Layer
from sparse_rt.plan.decisions import Decisions, LayerDecision
from sparse_rt.plan.draft import Draft
from sparse_rt.plan.estimate import HAND_OVER_MICROSECONDS
from sparse_rt.plan.options import SessionOptions
from sparse_rt.plan.plan import Plan
from sparse_rt.plan.report import Trial
from sparse_rt.plan.steps.sparse_step import SparseStep
from sparse_rt.tuning import records
from sparse_rt.tuning.decide import decide_layer
from sparse_rt.tuning.hand_over import hand_over_microseconds
from sparse_rt.tuning.keys import layer_key
from sparse_rt.tuning.measure import Measure
from sparse_rt.tuning.measure_layer import ONNXRUNTIME, measure_layer, ways_of_layer
from sparse_rt.tuning.observe import Input
from sparse_rt.tuning.store import Store

__all__ = ["LayerTuning"]

_TURN_SECONDS = 0.001


class LayerTuning:
    """The measurements of single layers.

    Parameters
    ----------
    options, pool
        Of the session.
    store, around
        Where measurements are kept, and what they depend on beside the layer.
    measure
        Times candidates.
    seconds
        How long all measurements may take, and again how long what they need may take to be made ready; compilation not
        counted. Kinds of layers that it does not suffice for keep their sparse kernels.
    """

    def __init__(
        self,
        options: SessionOptions,
        pool: ThreadPool,
        store: Store,
        around: Mapping[str, Any],
        measure: Measure,
        seconds: float,
    ) -> None:
        self._options = options
        self._pool = pool
        self._store = store
        self._around = around
        self._measure = measure
        self._left = self._share = self._to_prepare = seconds
        #: What handing over costs each kind of layer, in microseconds.
        self._beside: dict[str, float] = {}

    def decisions(self, draft: Draft, plan: Plan, inputs: Mapping[str, Mapping[str, Input]]) -> Decisions:
        """Return the decisions about the layers of a plan of sparse kernels.

        Parameters
        ----------
        draft, plan
            The model.
        inputs
            What each sparse step reads, by the name of what it writes.
        """
        layers = [(layer, step, inputs[step.y]) for layer, step in _sparse_layers(draft, plan)]
        keys = [{**self._around, **layer_key(*found)} for found in layers]
        beside_islands = _beside_islands(plan)
        kinds = [str(key) for key in keys]
        key_of = dict(zip(kinds, keys, strict=True))
        tried = {kind: records.trials(self._store.read("layer", key)) for kind, key in key_of.items()}
        new = {kind: found for kind, found in zip(kinds, layers, strict=True) if not tried[kind]}
        # Where time does not suffice for all, it shall for those that take most of a run.
        often = Counter(kinds)
        order = sorted(new, key=lambda kind: often[kind] * _work(*new[kind][1:]), reverse=True)
        for number, kind in enumerate(order):
            if number and min(self._left, self._to_prepare) <= 0:
                break
            layer, step, found = new[kind]
            self._share = self._left / (len(order) - number)
            tried[kind] = self._tried(draft, layer, step, found)
            self._store.write("layer", key_of[kind], records.of_trials(tried[kind]))
        decided: dict[str, LayerDecision] = {}
        for (layer, step, found), kind in zip(layers, kinds, strict=True):
            pattern, sparse = layer.pattern, step.kernel.name
            if pattern is not None and any(trial.candidate == sparse for trial in tried[kind]):
                beside = 0.0 if step in beside_islands else self._hand_over(kind, step, found, tried[kind])
                decided[str(layer.y.name)] = decide_layer(sparse, pattern.name, layer.shape[0], tried[kind], beside)
        return Decisions(decided)

    def _tried(self, draft: Draft, layer: Layer, step: SparseStep, inputs: Mapping[str, Input]) -> tuple[Trial, ...]:
        """Measure the ways to run a layer."""
        arrays = {name: item.array() for name, item in inputs.items()}
        start = time.perf_counter()
        ways = ways_of_layer(draft, layer, step, arrays, self._options)
        self._to_prepare -= time.perf_counter() - start
        return measure_layer(ways, arrays, self._pool, self._time)

    def _hand_over(self, kind: str, step: SparseStep, inputs: Mapping[str, Input], tried: Sequence[Trial]) -> float:
        """Return what leaving for onnxruntime costs a kind of layer; measured once, and only where it may matter."""
        times = {trial.candidate: trial.microseconds for trial in tried}
        if times.get(ONNXRUNTIME, float("inf")) >= times[step.kernel.name]:
            return 0.0
        found = self._beside.get(kind)
        if found is None:
            if self._beside and self._left <= 0:
                return HAND_OVER_MICROSECONDS
            arrays = {name: item.array() for name, item in inputs.items()}
            found = hand_over_microseconds(step, arrays, self._options, self._pool, self._time)
            self._beside[kind] = found
        return found

    def _time(self, candidates: Mapping[str, Callable[[], object]]) -> dict[str, float]:
        """Time candidates in the share of one layer."""
        start = time.perf_counter()
        try:
            return self._measure(candidates, max(0.0, self._share), _TURN_SECONDS)
        finally:
            self._left -= time.perf_counter() - start


def _work(step: SparseStep, inputs: Mapping[str, Input]) -> int:
    """Return about how many products a layer computes: of each element that it reads with a column of its weight."""
    return math.prod(inputs[step.x].shape) * step.packed.n * step.packed.k // max(1, step.channels)


def _sparse_layers(draft: Draft, plan: Plan) -> list[tuple[Layer, SparseStep]]:
    """Return the layers that steps of the plan run, with their steps.

    A layer that quantises its own input is left out: it is two steps here and one operator in onnxruntime.
    """
    steps = {step.y: step for step in plan.steps if isinstance(step, SparseStep)}
    found = []
    for layer in draft.layers:
        if layer.shape and layer.form != "dynamic":
            step = steps.get(str(draft.fusion(layer).y.name))
            if step is not None:
                found.append((layer, step))
    return found


def _beside_islands(plan: Plan) -> set[SparseStep]:
    """Return the steps before or after which onnxruntime runs something: it could run those, too, without a call."""
    read = {name for island in plan.islands for name in island.inputs}
    written = {name for island in plan.islands for name in island.outputs}
    return {step for step in plan.steps if isinstance(step, SparseStep) and (step.x in written or step.y in read)}
