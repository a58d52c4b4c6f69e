"""Reshapes and transpositions, against NumPy."""

import numpy as np
import onnx_ir as ir
import pytest

from sparse_rt.plan.steps.view import View
from tests.models.onnx_models import info, model, node


def view_of(*nodes, **constants):
    proto = model(list(nodes), [info("x", "a", "b", "c")], [info("y")], constants)
    found = View()
    for each in reversed(list(ir.from_proto(proto).graph)):
        found = found.after(each)
    return found


def test_what_is_seen_is_what_the_nodes_compute():
    x = np.arange(2 * 3 * 8).reshape(2, 3, 8)
    seen = view_of(
        node("Reshape", ["x", "s"], ["a"]),
        node("Transpose", ["a"], ["y"], perm=[0, 2, 1, 3]),
        s=np.array([0, -1, 2, 4]),
    )
    np.testing.assert_array_equal(seen.of(x), x.reshape(2, 3, 2, 4).transpose(0, 2, 1, 3))
    assert np.shares_memory(seen.of(x), x)
    assert seen.sizes((2, 3, 8)) == (2, 2, 3, 4)
    assert seen.sizes((None, 3, 8)) == (None, 2, None, 4)
    assert seen.rank == 4


def test_keys_that_pytorch_transposes_in_three_steps_stay_in_their_memory():
    x = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5).swapaxes(1, 2)  # no three of its axes are one
    seen = view_of(
        node("Reshape", ["x", "flat"], ["a"]),
        node("Transpose", ["a"], ["b"], perm=[0, 2, 1]),
        node("Reshape", ["b", "apart"], ["y"]),
        flat=np.array([8, 3, 5]),
        apart=np.array([2, 4, 5, 3]),
    )
    np.testing.assert_array_equal(seen.of(x), x.swapaxes(-1, -2))
    assert np.shares_memory(seen.of(x), x)


def test_shapes_that_do_not_fit_are_refused():
    seen = view_of(node("Transpose", ["x"], ["y"], perm=[0, 2, 1]))
    with pytest.raises(ValueError, match="3 axes"):
        seen.sizes((2, 3))
