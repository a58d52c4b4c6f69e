"""What is known of sizes: what onnxruntime infers, and numbers that stand for names."""

import numpy as np
import pytest

from sparse_rt.graph import model_io
from sparse_rt.plan.hosted.sizes import stand_ins, types_of_values
from sparse_rt.plan.signature import NodeArg, Signature
from tests.models.onnx_models import info, model, node


def test_types_are_inferred_and_what_is_noted_is_not_believed():
    nodes = [node("Shape", ["x"], ["a"]), node("MatMul", ["x", "w"], ["b"]), node("Neg", ["b"], ["y"])]
    proto = model(nodes, [info("x", "n", 4)], [info("y", "n", 200)], {"w": np.zeros((4, 200), np.float32)})
    proto.graph.value_info.append(info("b", "n", None))
    parsed = model_io.read(proto)
    inputs, outputs = ((tuple(map(NodeArg.of, each))) for each in (parsed.graph.inputs, parsed.graph.outputs))
    found = types_of_values(parsed, Signature(inputs, (), outputs))
    assert found["b"] == NodeArg("b", "tensor(float)", ["n", 200])
    assert found["a"] == NodeArg("a", "tensor(int64)", [2])
    assert found["w"].shape == [4, 200]


@pytest.mark.parametrize(
    "unknown", [NodeArg("u", "tensor(float)", [3, None]), NodeArg("u", "tensor(float)", [], False)]
)
def test_names_of_sizes_are_numbers_of_their_own(unknown):
    values = [NodeArg("x", "tensor(float)", ["n", 4]), NodeArg("y", "tensor(float)", ["m", "n"]), unknown]
    found = stand_ins(values)
    assert found.keys() == {"x", "y"}
    (n, four), (m, other) = found["x"], found["y"]
    assert (four, other) == (4, n)
    assert len({n, m, 4}) == 3
