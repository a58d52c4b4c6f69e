"""Measure what a layer costs beside its own time when onnxruntime runs it between two steps of ours."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sparse_rt_kernels.threads.pool import ThreadPool

from sparse_rt.plan.options import SessionOptions
from sparse_rt.plan.single_layer import idle_island
from sparse_rt.plan.steps.sparse_step import SparseStep
from sparse_rt.plan.steps.step import Environment

__all__ = ["hand_over_microseconds"]


def hand_over_microseconds(
    step: SparseStep,
    arrays: Mapping[str, NDArray[Any]],
    options: SessionOptions,
    pool: ThreadPool,
    time: Callable[[Mapping[str, Callable[[], object]]], dict[str, float]],
) -> float:
    """Return what an island that does nothing adds between two runs of a step: workers sleep, and wake again."""
    values: Environment = dict(arrays)
    nothing = idle_island(options)
    number: Environment = {"x": np.zeros(1, np.float32)}

    def twice() -> None:
        step.run(values, pool)
        step.run(values, pool)

    def apart() -> None:
        step.run(values, pool)
        nothing.run(number, pool)
        step.run(values, pool)

    found = time({"twice": twice, "apart": apart})
    # The island's own call is part of every measurement of onnxruntime.
    alone = time({"alone": lambda: nothing.run(number, pool)})
    return max(0.0, 1e6 * (found["apart"] - found["twice"] - alone["alone"]))
