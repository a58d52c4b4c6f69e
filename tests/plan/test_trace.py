"""Profiles of a session: a Chrome trace of its steps, and of onnxruntime's nodes within."""

import gc
import json
import tempfile
import time

import numpy as np
import pytest

import sparse_rt as srt
from sparse_rt.plan import trace as trace_module
from tests.models.onnx_models import info, model, node, normal, sparse, stock


@pytest.fixture
def rng():
    return np.random.default_rng(13)


def with_an_island(rng):
    nodes = [
        node("MatMul", ["x", "w"], ["a"], name="first"),
        node("Softplus", ["a"], ["b"], name="between"),
        node("MatMul", ["b", "w"], ["y"], name="second"),
    ]
    return model(nodes, [info("x", "r", 8)], [info("y", "r", 8)], {"w": sparse(rng, 8, 8).T.copy()})


def profiled(proto, prefix, feeds, runs=2):
    options = srt.SessionOptions(intra_op_num_threads=2, enable_profiling=True, profile_file_prefix=str(prefix))
    session = srt.InferenceSession(proto, options)
    before = time.time_ns()
    assert 0 < session.get_profiling_start_time_ns() <= before
    results = [session.run(None, feeds) for _ in range(runs)]
    path = session.end_profiling()
    assert session.end_profiling() == ""
    session.run(None, feeds)
    with open(path, encoding="utf-8") as file:
        return results[-1], json.load(file), path


def test_trace(rng, tmp_path):
    proto, feeds = with_an_island(rng), {"x": normal(rng, 5, 8)}
    results, events, path = profiled(proto, tmp_path / "profile", feeds)
    assert path.startswith(str(tmp_path / "profile_"))
    assert path.endswith(".json")
    np.testing.assert_allclose(results[0], stock(proto, feeds)[0], rtol=1e-5, atol=1e-5)
    assert [event["name"] for event in events if event["cat"] == "Session"] == [
        "model_run",
        "onnxruntime, 1 nodes",
    ] * 2
    nodes = [event for event in events if event["cat"] == "Node"]
    assert [event["name"] for event in nodes] == [f"{name}_kernel_time" for name in ("first", "between", "second")] * 2
    assert nodes[1]["args"]["provider"] == "CPUExecutionProvider"
    arguments = nodes[0]["args"]
    assert arguments["op_name"] == "MatMul"
    assert arguments["provider"] == "sparse_rt"
    assert arguments["kernel"].startswith("f32_n2m4")
    assert arguments["input_type_shape"] == arguments["output_type_shape"] == [{"float": [5, 8]}]


def test_events_are_complete_and_nested(rng, tmp_path):
    _, events, _ = profiled(with_an_island(rng), tmp_path / "p", {"x": normal(rng, 5, 8)}, runs=1)
    for event in events:
        assert event["ph"] == "X"
        assert {"name", "cat", "ts", "dur", "pid", "tid", "args"} <= set(event)
    whole = events[0]
    assert whole["name"] == "model_run"
    assert len({(event["pid"], event["tid"]) for event in events}) == 1
    for event in events[1:]:
        # onnxruntime counts whole microseconds.
        assert event["ts"] + 2 >= whole["ts"]
        assert event["ts"] + event["dur"] <= whole["ts"] + whole["dur"] + 2


def with_islands(rng, count):
    nodes, last = [], "x"
    for number in range(count):
        nodes += [node("MatMul", [last, "w"], [f"a{number}"]), node("Softplus", [f"a{number}"], [f"b{number}"])]
        last = f"b{number}"
    nodes.append(node("MatMul", [last, "w"], ["y"]))
    return model(nodes, [info("x", "r", 8)], [info("y", "r", 8)], {"w": sparse(rng, 8, 8).T.copy()})


def test_every_island_has_a_profile_of_its_own(rng, tmp_path, monkeypatch):
    """onnxruntime names them by the second: islands, and sessions that are profiled at once, would share one file."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    feeds = {"x": normal(rng, 5, 8)}
    options = srt.SessionOptions(2, enable_profiling=True, profile_file_prefix=str(tmp_path / "p"))
    sessions = [srt.InferenceSession(with_islands(rng, count), options) for count in (12, 3)]
    for session in sessions:
        session.run(None, feeds)
    paths = [session.end_profiling() for session in sessions]
    for path, count in zip(paths, (12, 3), strict=True):
        with open(path, encoding="utf-8") as file:
            names = [event["args"]["op_name"] for event in json.load(file) if event["cat"] == "Node"]
        assert names == ["MatMul", "Softplus"] * count + ["MatMul"]
    assert len(set(paths)) == 2
    assert not list((tmp_path / "temporary").iterdir())


def test_a_session_without_an_end_leaves_no_files(rng, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    options = srt.SessionOptions(2, enable_profiling=True, profile_file_prefix=str(tmp_path / "p"))
    session = srt.InferenceSession(with_islands(rng, 2), options)
    session.run(None, {"x": normal(rng, 5, 8)})
    del session
    gc.collect()
    assert not list(tmp_path.iterdir())


def test_a_profile_replaces_no_other(rng, tmp_path, monkeypatch):
    moment = time.time_ns()
    moments = iter([moment, moment + 10**7])
    monkeypatch.setattr(trace_module.Trace, "_now", lambda self: next(moments))
    stamp = time.strftime("%Y-%m-%d_%H-%M-%S", time.localtime(moment // 10**9))
    taken = tmp_path / f"p_{stamp}_{moment // 10**6 % 1000:03d}.json"
    taken.write_text("another session's")
    options = srt.SessionOptions(1, enable_profiling=True, profile_file_prefix=str(tmp_path / "p"))
    path = srt.InferenceSession(with_islands(rng, 1), options).end_profiling()
    assert path != str(taken)
    assert taken.read_text() == "another session's"


@pytest.mark.parametrize("place", ["absent/p", "file/p", "p" * 300])
def test_where_nothing_can_be_written(place, rng, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    (tmp_path / "file").write_text("")
    options = srt.SessionOptions(1, enable_profiling=True, profile_file_prefix=str(tmp_path / place))
    session = srt.InferenceSession(with_islands(rng, 2), options)
    session.run(None, {"x": normal(rng, 5, 8)})
    with pytest.raises(srt.ConfigError, match="profile_file_prefix"):
        session.end_profiling()
    assert session.end_profiling() == ""
    assert not list((tmp_path / "temporary").iterdir())
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(srt.ConfigError, match="temporary"):
        srt.InferenceSession(with_islands(rng, 2), options)


def test_a_dense_model_has_a_profile_too(rng, tmp_path):
    proto = model([node("Relu", ["x"], ["y"], name="only")], [info("x", 3)], [info("y", 3)])
    _, events, _ = profiled(proto, tmp_path / "p", {"x": normal(rng, 3)}, runs=1)
    assert [event["name"] for event in events] == ["model_run", "onnxruntime, 1 nodes", "only_kernel_time"]


def test_no_profile_unless_asked_for(rng, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    session = srt.InferenceSession(with_an_island(rng))
    session.run(None, {"x": normal(rng, 2, 8)})
    assert session.end_profiling() == ""
    assert session.get_profiling_start_time_ns() == 0
    assert not list(tmp_path.iterdir())


def test_default_name(rng, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    session = srt.InferenceSession(with_an_island(rng), srt.SessionOptions(enable_profiling=True))
    session.run(None, {"x": normal(rng, 2, 8)})
    path = session.end_profiling()
    assert path.startswith("sparse_rt_profile_")
    assert [file.name for file in tmp_path.iterdir()] == [path]


def test_a_file_that_cannot_be_written(rng, tmp_path):
    options = srt.SessionOptions(enable_profiling=True, profile_file_prefix=str(tmp_path / "none" / "p"))
    with pytest.raises(srt.ConfigError, match="profile_file_prefix"):
        srt.InferenceSession(with_an_island(rng), options).end_profiling()
