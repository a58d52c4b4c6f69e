"""A plan: the frozen steps that run a model."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sparse_rt_kernels.threads.pool import ThreadPool

from sparse_rt.plan.bind.check import check_steps
from sparse_rt.plan.bind.segment import Segment, segmented
from sparse_rt.plan.hosted.hosted_step import HostedStep
from sparse_rt.plan.islands.engine import Engine
from sparse_rt.plan.islands.onnxruntime_step import OnnxRuntimeStep
from sparse_rt.plan.metadata import ModelMetadata
from sparse_rt.plan.report import LayerFacts, LayerReport, Trial
from sparse_rt.plan.signature import Signature
from sparse_rt.plan.steps.sparse_step import SparseStep
from sparse_rt.plan.steps.step import Environment, Step, spent
from sparse_rt.plan.trace import Trace

__all__ = ["Plan"]


@dataclass(frozen=True, eq=False)
class Plan:
    """Steps in order, and what surrounds them. Immutable: several threads may run it at once.

    Attributes
    ----------
    signature
        Inputs and outputs.
    steps
        In order of execution.
    parts
        The same, with steps that run in one native call put together as segments.
    constants
        Values that steps or callers read without a step writing them: initializers, and defaults of inputs.
    layers, reports
        One for each layer: what is true of it, and how it runs.
    metadata
        The model's description.
    shapes
        Those of the values whose shape is the same in every run, as far as they are known.
    tried
        Whole plans that were measured before this one was taken.
    stock
        The engine of onnxruntime's session where that runs the whole model, alone or with segments of ours in it; None
        elsewhere.
    """

    signature: Signature
    steps: tuple[Step, ...]
    constants: Mapping[str, NDArray[Any]]
    layers: tuple[LayerFacts, ...]
    reports: tuple[LayerReport, ...]
    metadata: ModelMetadata
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    tried: tuple[Trial, ...] = ()
    parts: tuple[Step, ...] = field(init=False, repr=False)
    stock: Engine | None = field(init=False, repr=False)
    _spent: tuple[tuple[str, ...], ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        outputs = {item.name for item in self.signature.outputs}
        given = {*self.constants, *self.signature.fed}
        check_steps(self.steps, given, outputs)
        object.__setattr__(self, "parts", segmented(self.steps, outputs, self.shapes))
        check_steps(self.parts, given, outputs)
        object.__setattr__(self, "_spent", spent(self.parts))
        alone = self.steps[0] if len(self.steps) == 1 and not self.constants else None
        object.__setattr__(self, "stock", alone.engine if isinstance(alone, OnnxRuntimeStep) else None)

    @property
    def kernel_steps(self) -> tuple[Step, ...]:
        """The steps that kernels of ours run, be it inside onnxruntime."""
        return tuple(
            each
            for step in self.steps
            if isinstance(step, HostedStep) or not isinstance(step, OnnxRuntimeStep)
            for each in (step.kernel_steps if isinstance(step, HostedStep) else (step,))
        )

    @property
    def is_sparse(self) -> bool:
        """Whether kernels of ours run any layer that has a sparse one."""
        return any(isinstance(step, SparseStep) for step in self.kernel_steps)

    @property
    def is_hosted(self) -> bool:
        """Whether kernels of ours run as operators inside one session of onnxruntime, which runs all else."""
        return any(isinstance(step, HostedStep) for step in self.steps)

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The steps that run in one native call, be it inside onnxruntime."""
        return tuple(
            each
            for part in self.parts
            if isinstance(part, Segment | HostedStep)
            for each in (part.segments.values() if isinstance(part, HostedStep) else (part,))
        )

    @property
    def islands(self) -> tuple[Step, ...]:
        """The steps that onnxruntime runs."""
        return tuple(step for step in self.steps if isinstance(step, OnnxRuntimeStep))

    def describe(self) -> str:
        """Return the plan for a person, one step a line, with what was measured before.

        "|" marks the steps of one segment, as they run for the shapes that it was bound to last; names that end in
        "/NCHWc8" are values in blocks of 8 channels. Segments that run inside onnxruntime follow the line of its
        session, and a line of their own tells where each begins.
        """
        found: list[tuple[str, Step]] = []
        for part in self.parts:
            if isinstance(part, Segment):
                found.extend(("|", step) for step in part.current_steps())
                continue
            found.append((" ", part))
            for segment in part.segments.values() if isinstance(part, HostedStep) else ():
                found.append((" ", segment))
                found.extend(("|", step) for step in segment.current_steps())
        tried = {report.name: report.tried for report in self.reports}
        lines = [
            f"{number:4d} {mark} {step.describe()}{_figures(tried.get(getattr(step, 'name', ''), ()))}"
            for number, (mark, step) in enumerate(found)
        ]
        return "\n".join([*lines, *([f"whole plans{_figures(self.tried)}"] if self.tried else [])])

    def run(
        self,
        names: Sequence[str],
        feeds: Environment,
        pool: ThreadPool,
        run_options: Any = None,
        trace: Trace | None = None,
    ) -> list[Any]:
        """Return the outputs `names`, arrays that belong to the caller.

        Parameters
        ----------
        names
            Checked by :meth:`Signature.output_names`.
        feeds
            Checked by :meth:`Signature.checked`.
        pool
            Of the kernels.
        run_options
            onnxruntime's.
        trace
            What notes the run; steps then run one by one.
        """
        if trace is not None:
            return self._traced(names, feeds, pool, run_options, trace)
        values = {**self.constants, **feeds}
        for step, names_spent in zip(self.parts, self._spent, strict=True):
            step.run(values, pool, run_options)
            for name in names_spent:
                if name not in names:
                    del values[name]
        return self._results(names, feeds, values)

    def _traced(
        self, names: Sequence[str], feeds: Environment, pool: ThreadPool, run_options: Any, trace: Trace
    ) -> list[Any]:
        begin = time.time_ns()
        values = {**self.constants, **feeds}
        reports = {report.name: report for report in self.reports}
        for step, names_spent in zip(self.steps, spent(self.steps), strict=True):
            trace.step(step, reports, values, pool, run_options)
            for name in names_spent:
                if name not in names:
                    del values[name]
        results = self._results(names, feeds, values)
        trace.run(begin)
        return results

    def _results(self, names: Sequence[str], feeds: Environment, values: Environment) -> list[Any]:
        # A caller may write into its outputs: what is a feed or constant, or another shape of one, is copied, and so is
        # a name that is asked for twice.
        results: list[Any] = []
        kept = [*feeds.values(), *self.constants.values()]
        identities = set(map(id, kept))
        views = [other for other in kept if isinstance(other, np.ndarray) and other.base is not None]
        wholes = [other for other in kept if isinstance(other, np.ndarray) and other.base is None]
        for name in names:
            value = values[name]
            if not isinstance(value, np.ndarray):
                results.append(value)
                continue
            others = views if value.base is None else (*views, *wholes)
            if id(value) in identities or any(np.may_share_memory(value, other) for other in others):
                value = value.copy()
            results.append(value)
            identities.add(id(value))
            (wholes if value.base is None else views).append(value)
        return results


def _figures(tried: Sequence[Trial]) -> str:
    """Return what was tried, in brackets."""
    return f"  [{'; '.join(map(str, tried))}]" if tried else ""
