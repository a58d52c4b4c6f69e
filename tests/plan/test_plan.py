"""A plan is checked when it is made, and hands out arrays that belong to the caller."""

import numpy as np
import pytest
from sparse_rt_kernels.threads.pool import ThreadPool

from sparse_rt import ModelError
from sparse_rt.plan.metadata import ModelMetadata
from sparse_rt.plan.plan import Plan
from sparse_rt.plan.signature import NodeArg, Signature
from sparse_rt.plan.steps.reshape_step import ReshapeStep

F32 = np.dtype(np.float32)
NOTHING = ModelMetadata({}, "", "", "", "", "", 0)


def flat(x, y):
    return ReshapeStep("Flatten", "f", (x,), (F32,), y, F32, lambda shape: (-1,))


def plan(*steps, outputs=("y",), constants=None):
    arg = {name: NodeArg(name, "tensor(float)", [], False) for name in ("x", *outputs)}
    signature = Signature((arg["x"],), (), tuple(arg[name] for name in outputs))
    return Plan(signature, steps, constants or {}, (), (), NOTHING)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([flat("a", "y"), flat("x", "a")], "'a' written by a step before"),
        ([flat("x", "y"), flat("x", "y")], "'y' written once"),
        ([flat("x", "a")], "writes output 'y'"),
    ],
)
def test_steps_that_cannot_run_in_their_order_are_no_plan(steps, expected):
    with pytest.raises(ModelError, match=expected):
        plan(*steps)


def test_what_is_handed_out_is_no_memory_of_a_feed_of_a_constant_or_of_another_output():
    constant, x = np.ones(4, np.float32), np.arange(6, dtype=np.float32).reshape(2, 3)
    made = plan(flat("x", "a"), flat("a", "y"), outputs=("y", "a", "c", "x"), constants={"c": constant})
    results = made.run(["y", "a", "c", "x", "y"], {"x": x}, ThreadPool(1))
    for result, expected in zip(results, (x.ravel(), x.ravel(), constant, x, x.ravel()), strict=True):
        np.testing.assert_array_equal(result, expected)
    for number, result in enumerate(results):
        others = [x, constant, *results[:number]]
        assert not any(np.shares_memory(result, other) for other in others)
