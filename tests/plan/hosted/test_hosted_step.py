"""Kernels inside one session of onnxruntime: the same values, errors, profiles and verdicts; threads and forks."""

import gc
import json
import threading

import numpy as np
import pytest

import sparse_rt as srt
from sparse_rt.errors import FeedError, OperatorError
from sparse_rt.library import segments
from sparse_rt.plan.both_ways import run_both_ways
from sparse_rt.plan.hosted.hosted_step import HostedStep
from tests.models import chains
from tests.models.onnx_models import info, model, node, normal, sparse, stock
from tests.plan.hosted.sessions import agrees, hosted_session, mixed, needs_machine_code, rows_of
from tests.test_forks import forked
from tests.verify.networks import network, verified

pytestmark = needs_machine_code


@pytest.fixture
def rng():
    return np.random.default_rng(11)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("rows", [3, "rows"])
def test_layers_between_operators_of_onnxruntime(rng, rows, threads):
    proto = mixed(rng, rows)
    session = hosted_session(proto, threads)
    assert [report.is_sparse for report in session.explain()] == [True] * 3
    assert all(report.reason.endswith("; inside onnxruntime") for report in session.explain())
    for count in (3,) if rows == 3 else (3, 1, 7, 3):
        assert agrees(session, proto, rows_of(rng, count))
    assert agrees(session, proto, rows_of(rng, 3), ["d"])


@pytest.mark.parametrize("form", ["float32", "int8", "uint8"])
def test_values_are_those_of_a_plan_that_is_not_hosted(form, quiet_quantiser):
    """All that is between input and output is one segment, so not a bit may differ."""
    proto, feeds = network(form)
    apart = srt.InferenceSession(proto, srt.SessionOptions(2, tuning="sparse"))
    assert not apart.plan.islands
    np.testing.assert_array_equal(hosted_session(proto, 2).run(None, feeds)[0], apart.run(None, feeds)[0])


@pytest.mark.parametrize("threads", [1, 2])
def test_dozens_of_islands_are_one_session(rng, threads):
    proto = chains.islands(40)
    apart = srt.InferenceSession(proto, srt.SessionOptions(threads, tuning="sparse"))
    assert len(apart.plan.islands) == 40
    session = hosted_session(proto, threads)
    assert len(session.plan.segments) == 41
    feeds = {"x": normal(rng, 4, chains.SIZE)}
    np.testing.assert_allclose(session.run(None, feeds)[0], apart.run(None, feeds)[0], rtol=1e-4, atol=1e-5)


def test_shapes_that_do_not_fit_are_an_error_of_the_feeds(rng):
    proto = mixed(rng, channels="channels")
    session = hosted_session(proto)
    with pytest.raises(FeedError, match="layer 'first'"):
        session.run(None, {"x": normal(rng, 3, 15)})
    assert agrees(session, proto, rows_of(rng, 3))


def test_an_error_of_onnxruntimes_own_operator_passes(rng):
    nodes = [
        node("MatMul", ["x", "w"], ["a"]),
        node("Add", ["a", "z"], ["b"]),
        node("Sin", ["b"], ["c"]),
        node("MatMul", ["c", "w"], ["y"]),
    ]
    proto = model(nodes, [info("x", "r", 8), info("z", "s", 8)], [info("y", "r", 8)], {"w": sparse(rng, 8, 8).T.copy()})
    session = hosted_session(proto, log_severity_level=4)
    assert agrees(session, proto, {"x": normal(rng, 3, 8), "z": normal(rng, 1, 8)})
    with pytest.raises(OperatorError, match="Add"):
        session.run(None, {"x": normal(rng, 3, 8), "z": normal(rng, 2, 8)})


def test_threads_share_a_session_and_sessions_a_process(rng):
    protos = [mixed(rng), chains.islands(5)]
    sessions = [hosted_session(proto, 2) for proto in protos for _ in range(2)]
    right = []

    def run(session, proto, seed):
        own = np.random.default_rng(seed)
        right.append(all(agrees(session, proto, rows_of(own, 4)) for _ in range(20)))

    workers = [
        threading.Thread(target=run, args=(session, protos[number // 2], number))
        for number, session in enumerate(sessions * 2)
        for number in [number % len(sessions)]
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert right == [True] * len(workers)


def test_segments_are_forgotten_when_their_session_goes(rng):
    gc.collect()
    before = len(segments._registered)
    session = hosted_session(mixed(rng))
    assert len(segments._registered) > before
    del session
    gc.collect()
    assert len(segments._registered) == before


def test_a_profile_names_the_kernels(rng, tmp_path):
    proto = mixed(rng)
    session = hosted_session(proto, enable_profiling=True, profile_file_prefix=str(tmp_path / "profile"))
    assert agrees(session, proto, rows_of(rng, 3))
    with open(session.end_profiling(), encoding="utf-8") as file:
        events = json.load(file)
    ours = {event["name"]: event["args"]["kernel"] for event in events if event["args"].get("provider") == "sparse_rt"}
    assert {"first_kernel_time", "second_kernel_time", "third_kernel_time"} <= ours.keys()
    assert ours["first_kernel_time"].startswith("f32_n2m4")
    assert any(event["args"].get("op_name") == "Sin" for event in events)


@pytest.mark.parametrize("form", ["float32", "int8", "uint8"])
def test_verify_judges_what_runs(form, monkeypatch, quiet_quantiser):
    monkeypatch.setenv("SPARSE_RT_TUNING", "hosted")
    report = verified(form)
    assert report.exit_code == 0, report.reason
    assert not report.in_onnxruntime
    assert len(report.layers) == 8
    assert report.steps
    assert report.operators


def test_verify_finds_what_goes_wrong_inside_onnxruntime(monkeypatch, quiet_quantiser):
    look_inside = HostedStep.look_inside

    def spoiled(step, values):
        found = look_inside(step, values)
        (segment,) = step.segments.values()
        found[segment.outputs[0]].ravel()[0] += 1e-3
        return found

    monkeypatch.setenv("SPARSE_RT_TUNING", "hosted")
    monkeypatch.setattr(HostedStep, "look_inside", spoiled)
    report = verified("float32")
    assert report.exit_code == 1
    assert "as the plan runs it" in report.reason


@pytest.mark.parametrize("has_run", [False, True])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_forked_child_runs_it(rng, threads, has_run):
    proto, feeds = mixed(rng), rows_of(rng, 3)
    session = hosted_session(proto, threads)
    expected = stock(proto, feeds)[0]
    if has_run:
        session.run(None, feeds)

    def in_child():
        return [
            np.allclose(each.run(None, feeds)[0], expected, rtol=1e-4, atol=1e-5)
            for each in (session, hosted_session(proto, threads))
        ]

    assert forked(in_child) == "[True, True]"
    assert agrees(session, proto, feeds)


def test_what_is_looked_at_is_not_rounded(rng):
    """onnxruntime moves QuantizeLinear ahead of Reshape and Transpose, to what the segment writes."""
    nodes = [
        node("Sin", ["x"], ["s"]),
        node("MatMul", ["s", "w"], ["a"], name="layer"),
        node("Reshape", ["a", "to"], ["b"]),
        node("Transpose", ["b"], ["c"], perm=[0, 2, 1]),
        node("QuantizeLinear", ["c", "scale", "zero"], ["q"]),
        node("DequantizeLinear", ["q", "scale", "zero"], ["d"]),
        node("Cos", ["d"], ["y"]),
    ]
    constants = {"w": sparse(rng, 16, 16).T.copy(), "to": np.array([3, 4, 4])}
    constants |= {"scale": np.float32(0.5), "zero": np.uint8(128)}
    proto = model(nodes, [info("x", 3, 16)], [info("y", 3, 4, 4)], constants)
    session = hosted_session(proto)
    seen = []
    run_both_ways(session.plan, rows_of(rng, 3), session.pool, seen.append)
    assert seen
    for both in seen:
        np.testing.assert_array_equal(both.running, both.alone)
