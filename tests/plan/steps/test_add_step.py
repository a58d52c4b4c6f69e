"""The Add of a plan: what it says of the kernel that it runs is what NumPy shows that it computes."""

import numpy as np
import pytest
from numba.core import config
from sparse_rt_kernels.threads.pool import ThreadPool

from sparse_rt.plan.steps.add_step import AddStep
from tests.models.onnx_models import info, model, node, sparse, sparse_session

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="these operators are machine code")


def only_add(proto):
    (step,) = [step for step in sparse_session(proto).plan.steps if isinstance(step, AddStep)]
    return step


def proto(ending, held, last):
    rng = np.random.default_rng(0)
    nodes = [node("MatMul", ["x", f"w{name}"], [name]) for name in "ab"] + [node("Add", ["a", "b"], ["s"]), *ending]
    held = {f"w{name}": sparse(rng, 8, 8).T.copy() for name in "ab"} | held
    return model(nodes, [info("x", "r", 8)], [info(name, "r", 8) for name in (last, "a", "b")], held)


@pytest.mark.parametrize("clip", [False, True])
def test_the_bounds_are_those_of_the_sum(clip):
    ending = [node("Clip", ["s", "low", "high"], ["y"])] if clip else []
    held = {"low": np.float32(-0.25), "high": np.float32(0.5)} if clip else {}
    step = only_add(proto(ending, held, "y" if clip else "s"))
    assert (step.low, step.high) == ((-0.25, 0.5) if clip else (-np.inf, np.inf))
    assert step.quantised is None
    rng = np.random.default_rng(1)
    a, b = (rng.standard_normal((3, 8)).astype(np.float32) for _ in "ab")
    values = dict(zip(step.inputs, (a, b), strict=True))
    step.run(values, ThreadPool(1))
    np.testing.assert_array_equal(values[step.y], np.clip(a + b, step.low, step.high))
