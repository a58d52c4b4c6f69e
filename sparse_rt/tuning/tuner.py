"""From a model to the plan that measurements favour."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from sparse_rt_kernels.threads.pool import ThreadPool

from sparse_rt.errors import SparseRTError
from sparse_rt.feeds import random_feeds
from sparse_rt.graph.mapped import forget
from sparse_rt.graph.model_io import ModelSource
from sparse_rt.library.host import HOST
from sparse_rt.plan.build import build_plan
from sparse_rt.plan.decisions import Decisions
from sparse_rt.plan.draft import Decide, Draft
from sparse_rt.plan.estimate import estimated_decisions
from sparse_rt.plan.options import SessionOptions
from sparse_rt.plan.plan import Plan
from sparse_rt.plan.steps.step import Environment
from sparse_rt.plan.warm_up import warm_up
from sparse_rt.tuning import records
from sparse_rt.tuning.keys import model_key, surroundings
from sparse_rt.tuning.layer_tuning import LayerTuning
from sparse_rt.tuning.measure import measure
from sparse_rt.tuning.measure_plan import UNDER_WAY_HOSTED, followed, measure_plan
from sparse_rt.tuning.observe import layer_inputs
from sparse_rt.tuning.store import Store

__all__ = ["Tuner"]

#: Share of the time that goes to single layers.
_LAYERS_SHARE = 0.5


class Tuner:
    """Finds the plan of one session.

    Measurements that were kept are believed; what they do not cover is measured if `options.tuning` says so, or else
    estimated. Where sizes of inputs are open, those of the first run count: until then the model is not settled. (A
    ModelProto may have changed by then, so its sizes are guessed at once.)

    Parameters
    ----------
    source, options
        As of :func:`sparse_rt.plan.build.build_plan`.
    pool
        Of the session.
    """

    def __init__(self, source: ModelSource, options: SessionOptions, pool: ThreadPool) -> None:
        self._options = options
        self._pool = pool
        self._mode = options.tuning_mode
        self._store = Store()
        self._around = surroundings(options) if self._mode in ("on", "cached") else {}
        self._again = _source_of_later(source) if self._around else None
        self._draft: Draft | None = None
        self._key: dict[str, Any] | None = None
        self._names: list[str] = []
        self._is_known = False
        self._is_believed = True

    @property
    def is_settled(self) -> bool:
        """Whether nothing is left to be decided by the first run."""
        return self._key is None

    def plan(self, source: ModelSource) -> Plan:
        """Return the plan to begin with, its kernels compiled."""
        try:
            plan = self._build(source, self._first_decisions)
        except Exception:
            if not self._is_known:
                raise
            # A file that is damaged, or was written elsewhere, costs time and nothing else.
            self._is_believed = False
            plan = self._build(source, self._first_decisions)
        if self._key is None or self._is_known or not plan.is_sparse:
            self._key = None
        elif self._again is None or _has_known_shapes(plan):
            if self._mode == "on":
                plan = self._measured(source, plan, _random(plan))
            self._key = None
        self._draft = None
        return plan

    def settled(self, plan: Plan, feeds: Environment) -> Plan:
        """Return the plan for a model whose first run has these feeds, `plan` if nothing speaks for another one."""
        source, key = self._again and self._again(), self._key
        self._again = None
        if source is None or key is None or not all(isinstance(array, np.ndarray) for array in feeds.values()):
            self._key = None
            return plan
        self._key = {**key, "feeds": {name: list(feeds[name].shape) for name in sorted(feeds)}}
        try:
            known = self._known()
            found = None if known is None else self._following(source, plan, known)
            if found is not None:
                return found
            if self._mode == "on":
                return self._measured(source, self._build(source, self._drafted), feeds)
        except (SparseRTError, OSError):  # external data that is gone, say: the plan at hand still runs
            pass
        finally:
            self._key = self._draft = None
        return plan

    def _following(self, source: ModelSource, plan: Plan, known: Decisions) -> Plan | None:
        """Return the plan that decisions of an earlier session lead to; None if they cannot be carried out."""
        try:
            return followed(plan, known) or self._build(source, lambda _: known)
        except Exception:  # as in plan()
            return None

    def _build(self, source: ModelSource, decide: Decide) -> Plan:
        drafts = []

        def deciding(draft: Draft) -> Decisions:
            drafts.append(draft)
            return decide(draft)

        plan = build_plan(source, self._options, deciding, HOST)
        for draft in drafts:
            if draft is not self._draft:
                forget(draft.model)
        warm_up(plan, self._pool)
        return plan

    def _known(self) -> Decisions | None:
        """Return what an earlier session decided; None if there was none, or if it speaks of other layers."""
        if self._key is None or not self._is_believed:
            return None
        known = records.decisions(self._store.read("model", self._key))
        return known if known is not None and known.layers.keys() <= set(self._names) else None

    def _drafted(self, draft: Draft) -> Decisions:
        self._draft = draft
        return Decisions()

    def _first_decisions(self, draft: Draft) -> Decisions:
        """Return what was measured before, or an estimate; nothing where measurements will follow."""
        if self._mode == "sparse" or all(layer.reason is not None for layer in draft.layers):
            return Decisions()
        if self._mode == "hosted":
            return Decisions(hosted=UNDER_WAY_HOSTED)
        if self._mode == "off":
            return estimated_decisions(draft)
        self._names = [str(layer.y.name) for layer in draft.layers]
        self._key = {**self._around, **model_key(draft)}
        known = self._known()
        self._is_known = known is not None
        if known is not None:
            return known
        return self._drafted(draft) if self._mode == "on" else estimated_decisions(draft)

    def _measured(self, source: ModelSource, plan: Plan, feeds: Environment | None) -> Plan:
        """Return a plan no slower than `plan`, as far as measurements can tell, and keep what leads to it."""
        draft, self._draft = self._draft, None
        if draft is None or feeds is None or self._key is None:
            return plan
        try:
            inputs = layer_inputs(plan.steps, {**plan.constants, **feeds}, self._pool)
        except Exception:  # feeds that are no legal ones: a run will say so, and nothing can be measured
            return plan
        seconds = float(self._options.tuning_seconds)
        layers = LayerTuning(
            self._options, self._pool, self._store, self._around, measure, _LAYERS_SHARE * seconds
        ).decisions(draft, plan, inputs)
        del draft, inputs  # weights, which whole plans have again
        improved, decisions = measure_plan(
            plan,
            layers,
            lambda wanted: self._build(source, lambda _: wanted),
            feeds,
            self._pool,
            measure,
            (1 - _LAYERS_SHARE) * seconds,
        )
        self._store.write("model", self._key, records.of_decisions(decisions))
        warm_up(improved, self._pool)
        return improved


def _has_known_shapes(plan: Plan) -> bool:
    inputs = plan.signature.inputs
    return all(item.has_rank and all(isinstance(size, int) for size in item.shape) for item in inputs)


def _random(plan: Plan) -> Environment | None:
    """Return random feeds of the declared shapes; open sizes are guessed."""
    try:
        return plan.signature.checked(random_feeds(plan.signature.inputs))
    except SparseRTError:
        return None


def _source_of_later(source: ModelSource) -> Callable[[], ModelSource | None] | None:
    """Return what finds the same model again when the first run comes; None for what may have changed by then."""
    if isinstance(source, bytes):
        return lambda: source
    if isinstance(source, onnx.ModelProto | bytearray | memoryview):
        return None
    try:
        path = Path(source).resolve()
        return partial(_unchanged, path, _mark(path))
    except OSError:
        return None


def _mark(path: Path) -> tuple[int, int, int]:
    found = os.stat(path)
    return found.st_size, found.st_mtime_ns, found.st_ino


def _unchanged(path: Path, mark: tuple[int, int, int]) -> Path | None:
    try:
        return path if _mark(path) == mark else None
    except OSError:
        return None
