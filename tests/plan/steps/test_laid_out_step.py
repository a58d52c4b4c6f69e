"""A step of a bound segment: one launch, on the arrays that it names, into an array of the shape that it says."""

import numpy as np

from sparse_rt.plan.steps.laid_out_step import LaidOutStep

U8 = np.dtype(np.uint8)


class Subtract:
    """What a kernel would do, in NumPy: the first array without the others."""

    def run(self, x, out, pool, *others):
        out[...] = x - sum(others)


LAUNCH = Subtract()
STEP = LaidOutStep("Conv", "c", ("a", "b"), (U8, U8), "y", U8, (2, 3), LAUNCH, (None, None), None)


def test_it_runs_on_its_inputs_in_order():
    values = {"b": np.full((2, 3), 2, np.uint8), "a": np.arange(5, 11, dtype=np.uint8).reshape(2, 3)}
    STEP.run(values, None)
    np.testing.assert_array_equal(values["y"], [[3, 4, 5], [6, 7, 8]])
    assert values["y"].dtype == U8


def test_its_call_and_its_shape_are_fixed():
    call = STEP.bind([(9, 9)], 4)
    assert (call[0], call[1]) == ((2, 3), LAUNCH)
    assert STEP.output_shape([None]) == (2, 3)
    assert STEP.overwrites == ()


def test_a_person_reads_what_is_added():
    assert STEP.describe() == "Conv  c  a + b -> y"
