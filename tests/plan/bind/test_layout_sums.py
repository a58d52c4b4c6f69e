"""Which layer an Add follows: the later one of two whose result nobody else reads."""

from types import SimpleNamespace

import numpy as np
import pytest
from sparse_rt_kernels.product.quantised_add import QuantisedAdd
from sparse_rt_kernels.vectors.quantisation import Quantisation

from sparse_rt.plan.bind.layout_sums import find_sums, unsigned
from sparse_rt.plan.steps.add_step import AddStep

U8, S8 = np.dtype(np.uint8), np.dtype(np.int8)
SHAPES = dict.fromkeys(("a", "b", "y"), (1, 8, 4, 4))
PARAMETERS = QuantisedAdd(Quantisation(0.5, 3), Quantisation(0.25, -5), Quantisation(1.0, 0))


def add(a, b):
    return AddStep(
        op_type="Add",
        name="n",
        inputs=(a, b),
        x_dtypes=(U8, S8),
        y="y",
        y_dtype=U8,
        shape_of=lambda shape: shape,
        prepare=None,
        quantised=PARAMETERS,
    )


def sums(alone, step, shapes=SHAPES):
    steps = [SimpleNamespace(y="a"), SimpleNamespace(y="b"), step]
    return find_sums(steps, shapes, alone)


@pytest.mark.parametrize(("alone", "own"), [("a", "a"), ("b", "b"), ("ab", "b")])
def test_the_later_layer_takes_the_sum(alone, own):
    found = sums(set(alone), add("a", "b"))["y"]
    assert (found.own, found.residual, found.addition) == (own, "ab".replace(own, ""), PARAMETERS)
    # Bytes with a sign lie 128 higher over blocks.
    assert (found.zero_point("a"), found.zero_point("b")) == (3, 123)


def test_sums_that_no_layer_can_take_stay_steps():
    assert sums(set(), add("a", "b")) == {}
    assert sums({"a"}, add("a", "a")) == {}
    assert sums({"a"}, add("a", "b"), {**SHAPES, "b": (1, 8, 1, 1)}) == {}


def test_unsigned_is_a_shift_of_signed_bytes_alone():
    assert (unsigned(-128, S8), unsigned(127, S8), unsigned(200, U8)) == (0, 255, 200)
