"""A model parted between steps and islands; what NumPy cannot hold is an obstacle, not an error."""

import numpy as np
import pytest
from sparse_rt_kernels.threads.pool import ThreadPool

from sparse_rt.graph import model_io
from sparse_rt.plan.islands.partition import Obstacle, Partition, partition
from sparse_rt.plan.options import SessionOptions
from sparse_rt.plan.signature import NodeArg, Signature
from tests.models.onnx_models import info, model, node

BFLOAT16 = 16


def parted(nodes, constants, outputs):
    parsed = model_io.read(model(nodes, [info("x", "b", 4)], outputs, constants))
    inputs, named = ((tuple(map(NodeArg.of, values))) for values in (parsed.graph.inputs, parsed.graph.outputs))
    return partition(parsed, Signature(inputs, (), named), [], SessionOptions())


def test_without_steps_of_ours_a_model_is_one_island():
    nodes = [node("Add", ["x", "c"], ["a"]), node("Neg", ["a"], ["y"])]
    found = parted(nodes, {"c": np.ones(4, np.float32)}, [info("y"), info("c")])
    assert isinstance(found, Partition)
    (step,) = found.steps
    assert (step.inputs, step.outputs) == (("x",), ("y",))
    # c is an output that no step writes.
    np.testing.assert_array_equal(found.constants["c"], np.ones(4, np.float32))
    assert [item.type for item in found.signature.outputs] == ["tensor(float)"] * 2
    values = {"x": np.full((2, 4), 2, np.float32)}
    step.run(values, ThreadPool(1))
    np.testing.assert_array_equal(values["y"], np.full((2, 4), -3))


@pytest.mark.parametrize("kind", [BFLOAT16])
def test_a_value_that_cannot_leave_an_island_is_an_obstacle_with_the_reason(kind):
    found = parted([node("Cast", ["x"], ["y"], to=kind)], {}, [info("y", "b", 4, kind=kind)])
    assert found == Obstacle("'y' is a tensor(bfloat16), which onnxruntime cannot hand to other steps")
