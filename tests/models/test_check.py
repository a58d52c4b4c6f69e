"""A plan that cannot run in its order is refused before it runs."""

from types import SimpleNamespace

import numpy as np
import pytest

from sparse_rt import ModelError
from sparse_rt.plan.check import check_steps
from sparse_rt.plan.reshape_step import ReshapeStep

F32, U8 = np.dtype(np.float32), np.dtype(np.uint8)


def other(inputs, outputs):
    """A step that is not ours."""
    return SimpleNamespace(inputs=inputs, outputs=outputs, run=None, describe=lambda: "other")


def view(x, y, dtype=F32):
    return ReshapeStep("Reshape", "r", x, y, dtype, lambda shape: shape)


def test_steps_in_order_are_accepted():
    check_steps([view("x", "a"), other(("a", "w"), ("b", "c")), view("c", "y")], {"x", "w"}, ["y", "a", "x"])


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([view("a", "y"), view("x", "a")], "'a' written by a step before"),
        ([view("x", "y"), other(("x",), ("y",))], "'y' written once"),
        ([view("x", "a"), view("a", "y", U8)], "'a' of type uint8"),
        ([view("x", "a")], "writes output 'y'"),
    ],
)
def test_others_are_refused(steps, expected):
    with pytest.raises(ModelError, match=expected):
        check_steps(steps, {"x"}, ["y"])
