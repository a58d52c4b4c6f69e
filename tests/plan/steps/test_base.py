"""What every step checks and says of itself."""

import numpy as np
import pytest

from sparse_rt import FeedError
from sparse_rt.plan.steps.base import StepBase
from sparse_rt.plan.steps.concat_step import ConcatStep
from sparse_rt.plan.steps.laid_out_step import LaidOutStep
from sparse_rt.plan.steps.operator_step import OperatorStep
from sparse_rt.plan.steps.reshape_step import ReshapeStep
from sparse_rt.plan.steps.step import can_be_bound

F32, U8 = np.dtype(np.float32), np.dtype(np.uint8)
NAMES = {"op_type": "Op", "name": "n", "inputs": ("a", "b"), "x_dtypes": (F32, U8), "y": "y", "y_dtype": F32}


@pytest.fixture
def base():
    return StepBase(**NAMES)


def test_arrays_become_contiguous_and_aligned(base):
    bytes_ = np.zeros(4 * 6 + 1, np.uint8)
    odd = bytes_[1:].view(np.float32).reshape(2, 3)
    turned = np.arange(6, dtype=np.uint8).reshape(3, 2).T
    for array in base.checked({"a": odd, "b": turned}):
        assert array.flags.c_contiguous
        assert array.flags.aligned


def test_another_dtype_is_refused_by_the_name_of_the_input(base):
    with pytest.raises(FeedError, match=r"Op 'n', input 'b': expected uint8, got int8"):
        base.checked({"a": np.zeros(1, np.float32), "b": np.zeros(1, np.int8)})


@pytest.mark.parametrize("shape", [(2**62,), (2**40, 2**40)])
def test_outputs_that_memory_cannot_hold_are_refused(base, shape):
    with pytest.raises(FeedError, match=r"Op 'n', output 'y': expected an output that memory can hold"):
        base.empty_y(shape)


def test_every_kind_of_step_on_a_kernel_can_be_bound():
    ways = {"shape_of": lambda shape: shape}
    steps = [
        ConcatStep(**NAMES, axis=0, tables=(None, None), tier=None),
        OperatorStep(**NAMES, **ways, prepare=None),
        ReshapeStep(**NAMES, **ways),
        LaidOutStep(**NAMES, y_shape=(1,), launch=None, layouts=(None, None), y_layout=None),
    ]
    assert all(map(can_be_bound, steps))
    assert {(step.x, step.outputs, step.overwrites) for step in steps} == {("a", ("y",), ())}
