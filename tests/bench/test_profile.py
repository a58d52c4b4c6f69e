"""Profiles of the engines, and whose layer a node belongs to."""

import json
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from sparse_rt.bench.engines import SparseRuntime
from sparse_rt.bench.profile import NodeTime, layers_of_nodes, node_times, owner_of
from tests.test_forks import WIDTH, network

MODEL = """<ir_version: 8, opset_import: ["" : 17]>
net (float[1, 4] x) => (float[1, 4] y) <float[4, 4] w1 = {WEIGHT}, float[4, 4] w2 = {WEIGHT}> {
    [fc1] h = Gemm(x, w1)
    [fc1_relu] r = Relu(h)
    [fc10] g = Gemm(r, w2)
    [scores] s = MatMul(g, r)
    [last] y = Softmax(s)
}""".replace("WEIGHT", ",".join(["0,0,1,2"] * 4))


def event(name, op_type, dur, **arguments):
    return {
        "cat": "Node",
        "ph": "X",
        "ts": 0,
        "dur": dur,
        "name": f"{name}_kernel_time",
        "args": {"op_name": op_type, **arguments},
    }


def test_node_times(tmp_path):
    path = tmp_path / "profile.json"
    events = [event("a", "Conv", dur, kernel="k") for dur in (900, 10, 30, 20)]
    events += [event("b", "Relu", 5), {"cat": "Session", "name": "model_run", "dur": 7}]
    path.write_text(json.dumps(events))
    first, second = node_times(path)
    assert (first.name, first.op_type, first.kernel) == ("a", "Conv", "k")
    assert first.seconds == pytest.approx(20e-6)
    # What ran once counts once.
    assert second.seconds == pytest.approx(5e-6)


def test_owners():
    owners = layers_of_nodes(ir.from_onnx_text(MODEL), ["fc1", "fc10", "scores"])
    for name, op_type, owner in [
        ("fused fc1", "FusedGemm", "fc1"),
        ("fc1_relu_nchwc", "Conv", "fc1"),
        ("fc10_token_7", "QGemm", "fc10"),
        ("last", "Softmax", None),
        ("elsewhere", "MatMul", None),
    ]:
        assert owner_of(NodeTime(name, op_type, "", 1.0), owners) == owner


def test_profiles_of_several_islands(tmp_path):
    """Each of onnxruntime's sessions writes a profile, all of them within one second."""
    path = tmp_path / "islands.onnx"
    path.write_bytes(network("r", islands=5).SerializeToString())
    engine = SparseRuntime(str(path), 2)
    engine.set_feeds({"x": np.ones((4, WIDTH), np.float32)})
    profile = engine.open_profile(tmp_path)
    profile.run()
    found = node_times(Path(profile.end()))
    assert [node.op_type for node in found].count("Softplus") == 5
