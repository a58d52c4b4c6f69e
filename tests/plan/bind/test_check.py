"""A plan that cannot run in its order is refused before it runs."""

from types import SimpleNamespace

import numpy as np
import pytest
from sparse_rt_kernels.product.nchwc8 import NCHWc8

from sparse_rt import ModelError
from sparse_rt.plan.bind.check import check_steps
from sparse_rt.plan.steps.laid_out_step import LaidOutStep
from sparse_rt.plan.steps.reshape_step import ReshapeStep

F32, U8 = np.dtype(np.float32), np.dtype(np.uint8)


def other(inputs, outputs):
    """A step that is not ours."""
    return SimpleNamespace(inputs=inputs, outputs=outputs, run=None, describe=lambda: "other")


def view(x, y, dtype=F32):
    return ReshapeStep("Reshape", "r", (x,), (dtype,), y, dtype, lambda shape: shape)


def over_blocks(x, y, x_layout, y_layout):
    return LaidOutStep("Conv", "c", (x,), (U8,), y, U8, (1,), None, (x_layout,), y_layout)


BLOCKS = NCHWc8(1, 16, 7, 7, (1, 1, 1, 1), 128)
ZEROS = NCHWc8(1, 16, 7, 7, (1, 1, 1, 1), 0)


def test_steps_in_order_are_accepted():
    check_steps([view("x", "a"), other(("a", "w"), ("b", "c")), view("c", "y")], {"x", "w"}, ["y", "a", "x"])
    check_steps([over_blocks("x", "a", None, BLOCKS), over_blocks("a", "y", BLOCKS, None)], {"x"}, ["y"])


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([view("a", "y"), view("x", "a")], "'a' written by a step before"),
        ([view("x", "y"), other(("x",), ("y",))], "'y' written once"),
        ([view("x", "a"), view("a", "y", U8)], "'a' of type uint8"),
        ([view("x", "a")], "writes output 'y'"),
        ([over_blocks("x", "y", BLOCKS, None)], "'x' in NCHWc8.*, got planes"),
        ([over_blocks("x", "a", None, BLOCKS), view("a", "y", U8)], "'a' in planes, got NCHWc8"),
        ([over_blocks("x", "a", None, BLOCKS), over_blocks("a", "y", ZEROS, None)], "pad=0.*, got .*pad=128"),
        ([over_blocks("x", "y", None, BLOCKS)], "output 'y' in planes"),
        ([view("x", "a"), view("x", "y", U8)], "'x' of type uint8"),
    ],
)
def test_others_are_refused(steps, expected):
    with pytest.raises(ModelError, match=expected):
        check_steps(steps, {"x"}, ["y"])
