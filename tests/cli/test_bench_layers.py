"""The layer table of bench: profiles of two engines, matched by the names of nodes."""

import json
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from sparse_rt.bench import bench
from sparse_rt.bench.engines import SparseRuntime
from sparse_rt.bench.layers import OTHERS, compare_layers
from sparse_rt.bench.named import named_dense_model
from sparse_rt.bench.profile import NodeTime, layers_of_nodes, node_times, owner_of
from sparse_rt.errors import SparseRTError
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


def test_layers_side_by_side():
    dense = [
        NodeTime("fused fc1", "FusedGemm", "", 3.0),
        NodeTime("scores", "MatMul", "", 1.0),
        NodeTime("last", "Softmax", "", 2.0),
    ]
    sparse = [
        NodeTime("fc1", "Gemm", "kernel", 1.5),
        NodeTime("fc10", "Gemm", "", 0.5),
        NodeTime("scores", "Attention", "Attention", 2.0),
    ]
    first, second, others = compare_layers(ir.from_onnx_text(MODEL), dense, sparse)
    assert (first.name, first.kernel, first.dense, first.sparse, first.ratio) == ("fc1", "kernel", 3.0, 1.5, 2.0)
    assert first.share == pytest.approx(1.5 / 4)
    assert (second.name, second.kernel, second.dense, second.ratio) == ("fc10", "onnxruntime", None, None)
    assert second.note
    assert (others.name, others.dense, others.sparse) == (OTHERS, 3.0, 2.0)
    assert first.share + second.share + others.share == pytest.approx(1)


def test_the_dense_model_of_a_compressed_file_has_its_names(files):
    model, changed = named_dense_model(str(files["pruned_compressed"]))
    plain, same = named_dense_model(str(files["pruned"]))
    assert changed
    assert not same
    assert [node.name for node in model.graph] == [node.name for node in plain.graph]


def test_profile_is_kept(files, tmp_path):
    trace = tmp_path / "trace.json"
    report = bench(files["pruned_compressed"], seconds=0.3, threads=1, profile=trace)
    assert all(layer.dense for layer in report.layers)
    assert "model_run" in {event["name"] for event in json.loads(trace.read_text())}
    with pytest.raises(SparseRTError, match="a file that can be written"):
        bench(files["pruned"], seconds=0.1, threads=1, layers=False, profile=tmp_path / "none" / "trace.json")


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
