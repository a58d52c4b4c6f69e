"""Operands are checked, broadcast and widened before a kernel sees them."""

from types import SimpleNamespace

import numpy as np
import pytest

from sparse_rt import FeedError
from sparse_rt.plan.steps.operator_step import OperatorStep

F32 = np.dtype(np.float32)


class Call:
    """What a kernel would do, in NumPy."""

    def __init__(self, function):
        self.function = function

    def run(self, x, out, pool, *others):
        out[...] = self.function(x, *others)


def step(inputs, function, columns=0, prepared=None):
    def prepare(shape, y_shape, threads):
        if prepared is not None:
            prepared.append((shape, y_shape, threads))
        return Call(function)

    return OperatorStep(
        op_type="Op",
        name="n",
        inputs=tuple(inputs),
        x_dtypes=(F32,) * len(inputs),
        y="y",
        y_dtype=F32,
        shape_of=lambda shape: shape,
        prepare=prepare,
        columns=columns,
    )


def run(made, **values):
    values = {name: np.asarray(value, np.float32) for name, value in values.items()}
    made.run(values, SimpleNamespace(threads=1))
    return values["y"]


def test_two_operands_are_broadcast_and_calls_are_prepared_once_a_shape():
    prepared = []
    made = step("ab", np.add, prepared=prepared)
    a, b = np.arange(6.0).reshape(2, 3), np.arange(3.0)
    for _ in range(2):
        np.testing.assert_array_equal(run(made, a=a, b=b), a + b)
    assert prepared == [((2, 3), (2, 3), 1)]
    with pytest.raises(FeedError, match=r"Op 'n': expected two shapes that broadcast"):
        run(made, a=a, b=np.zeros(4))
    assert made.output_shape([(2, 3), (3,)]) == (2, 3)
    assert made.output_shape([(2, None), (3,)]) is None


def test_a_narrow_operand_is_widened_to_the_columns_of_a_constant():
    made = step("a", lambda x: x * 2, columns=4)
    np.testing.assert_array_equal(run(made, a=[[1], [2]]), [[2] * 4, [4] * 4])
    assert made.output_shape([(5, 1)]) == (5, 4)
    assert made.bind([(5, 1)], 1) is None
    assert not made.is_bindable({"a": (5, 1)})


def test_kernels_are_not_called_for_nothing():
    prepared = []
    assert run(step("a", np.negative, prepared=prepared), a=np.zeros((0, 3))).shape == (0, 3)
    assert prepared == []
