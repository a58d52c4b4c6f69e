"""The plan as it runs, value by value, against its own steps run one by one."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from sparse_rt.plan.both_ways import BothWays, run_both_ways
from sparse_rt.session import InferenceSession
from sparse_rt.verify.compare import bounded, exact
from sparse_rt.verify.report import StepCheck

__all__ = ["check_running"]


def check_running(session: InferenceSession, feeds: Mapping[str, Any]) -> tuple[StepCheck, ...]:
    """Return one check for each value that kernels of the session's plan write in one native call, in order.

    Each is held against the step that computes it, run alone on what that step reads in the running plan, and must be
    the same to the bit: layouts and places in memory are all that differs. Steps that run one by one in any case have
    none; neither has a plan that onnxruntime runs.
    """
    found: list[StepCheck] = []
    run_both_ways(session.plan, feeds, session.pool, lambda both: found.append(_check(both)))
    return tuple(found)


def _check(both: BothWays) -> StepCheck:
    if both.alone.dtype.kind == "f":
        comparison = bounded(both.running, both.alone, np.zeros(()), may_lose_nan=False)
    else:
        comparison = exact(both.running, both.alone)
    name = getattr(both.step, "name", "") or both.step.y
    return StepCheck(name, both.step.describe(), both.value, comparison)
