"""Each reader of a DequantizeLinear gets its own; values that stand for the same numbers stay the same."""

import numpy as np
import onnx_ir as ir

from sparse_rt.plan.islands.dequantise import separate_dequantise
from sparse_rt.plan.islands.schedule import schedule
from tests.models.onnx_models import UINT8, info, model, node, stock


def three_readers():
    nodes = [
        node("DequantizeLinear", ["x", "s", "z"], ["f"], name="d"),
        node("Neg", ["f"], ["a"]),
        node("Abs", ["f"], ["b"]),
        node("Add", ["f", "a"], ["c"]),
        node("Add", ["c", "b"], ["y"]),
    ]
    constants = {"s": np.float32(0.25), "z": np.array(3, np.uint8)}
    return model(nodes, [info("x", 2, 5, kind=UINT8)], [info("y", 2, 5)], constants)


def test_each_reader_gets_a_copy_and_the_result_stays():
    proto, x = three_readers(), np.arange(10, dtype=np.uint8).reshape(2, 5)
    parsed = ir.from_proto(proto)
    separate_dequantise(parsed.graph, [])
    copies = [each for each in parsed.graph if each.op_type == "DequantizeLinear"]
    assert len(copies) == 3
    assert all(len(list(each.outputs[0].uses())) == 1 for each in copies)
    feeds = {"x": x}
    np.testing.assert_array_equal(stock(ir.to_proto(parsed), feeds)[0], stock(proto, feeds)[0])


def test_what_steps_of_ours_compute_needs_none():
    parsed = ir.from_proto(three_readers())
    readers = [each for each in parsed.graph if each.op_type in ("Neg", "Abs")]
    separate_dequantise(parsed.graph, readers)
    assert sum(each.op_type == "DequantizeLinear" for each in parsed.graph) == 1


def test_schedule_does_not_change_the_graph_that_it_reads():
    parsed = ir.from_proto(three_readers())
    before = ir.to_proto(parsed).SerializeToString(deterministic=True)
    schedule(parsed.graph, [])
    assert ir.to_proto(parsed).SerializeToString(deterministic=True) == before
