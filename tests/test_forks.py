"""Forked children run their parent's sessions, or say at once why they cannot: no child ever waits for ever."""

import contextlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings

import numpy as np
import onnxruntime as ort
import pytest
from sparse_rt_kernels.jit import forks

import sparse_rt as srt
from sparse_rt.plan.islands import engine as engine_module
from tests.models.onnx_models import info, model, node, normal, sparse, stock

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")

SECONDS = 60
WIDTH = 16


@pytest.fixture(scope="module")
def feeds():
    return {"x": normal(np.random.default_rng(1), 40, WIDTH)}


def network(rows, islands=3):
    """Sparse layers with an operator of onnxruntime's between them."""
    rng = np.random.default_rng(0)
    nodes, weights, last = [], {"v": sparse(rng, WIDTH, WIDTH).T.copy()}, "x"
    for number in range(islands):
        weights[f"w{number}"] = sparse(rng, WIDTH, WIDTH).T.copy()
        nodes += [
            node("MatMul", [last, f"w{number}"], [f"a{number}"]),
            node("Softplus", [f"a{number}"], [f"b{number}"], name=f"between{number}"),
        ]
        last = f"b{number}"
    nodes.append(node("MatMul", [last, "v"], ["y"]))
    return model(nodes, [info("x", rows, WIDTH)], [info("y", rows, WIDTH)], weights)


def dense_network(rows):
    nodes = [node("MatMul", ["x", "w"], ["a"]), node("Softplus", ["a"], ["y"])]
    weights = {"w": normal(np.random.default_rng(2), WIDTH, WIDTH)}
    return model(nodes, [info("x", rows, WIDTH)], [info("y", rows, WIDTH)], weights)


NETWORKS = {"sparse": network, "dense": dense_network}


def forked(function):
    """Return what `function` returns in a forked child, as text; it fails if that takes too long."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python warns of forks in threaded processes
        child = os.fork()
    if child == 0:
        try:
            answer = str(function())
        except BaseException as error:
            answer = f"{type(error).__name__}: {error}"
        os.write(writer, answer.encode())
        os._exit(0)
    os.close(writer)
    deadline = time.monotonic() + SECONDS
    while os.waitpid(child, os.WNOHANG)[0] == 0:
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            pytest.fail("the child hangs")
        time.sleep(0.002)
    with os.fdopen(reader, "rb") as pipe:
        return pipe.read().decode()


def equals(session, feeds, expected):
    """Return whether three runs are right."""
    return all(np.allclose(session.run(None, feeds)[0], expected, rtol=1e-4, atol=1e-4) for _ in range(3))


@pytest.mark.parametrize("has_run", [False, True])
@pytest.mark.parametrize("rows", [40, "r"])
@pytest.mark.parametrize(("kind", "threads", "tuning"), [
    ("sparse", 1, "sparse"), ("sparse", 2, "sparse"), ("sparse", 2, "on"), ("sparse", 0, "on"), ("dense", 2, "on"),
])  # fmt: skip
def test_a_child_runs_drops_and_makes_sessions(kind, threads, tuning, rows, has_run, feeds, tmp_path, monkeypatch):
    monkeypatch.setenv("SPARSE_RT_TUNING", tuning)
    proto = NETWORKS[kind](rows)
    (expected,) = stock(proto, feeds)
    options = srt.SessionOptions(threads, tuning_seconds=0.05)
    held = [srt.InferenceSession(proto.SerializeToString(), options)]
    if has_run:
        held[0].run(None, feeds)

    def in_child():
        before = equals(held[0], feeds, expected)
        grandchild = forked(lambda: equals(held[0], feeds, expected))
        held.clear()
        return before, grandchild, equals(srt.InferenceSession(proto, options), feeds, expected)

    assert forked(in_child) == "(True, 'True', True)"
    assert equals(held[0], feeds, expected)


def operators(session):
    """Return what a session's profile says was run."""
    with open(session.end_profiling(), encoding="utf-8") as file:
        return [event["args"]["op_name"] for event in json.load(file) if event["cat"] == "Node"]


@pytest.mark.parametrize("threads", [1, 2])
def test_both_write_profiles(threads, feeds, tmp_path):
    options = srt.SessionOptions(threads, enable_profiling=True, profile_file_prefix=str(tmp_path / "p"))
    session = srt.InferenceSession(network(40), options)
    session.run(None, feeds)

    def in_child():
        session.run(None, feeds)
        return operators(session)

    expected = ["MatMul", "Softplus"] * 3 + ["MatMul"]
    assert forked(in_child) == str(expected)  # what the parent ran before is in its own profile alone
    assert operators(session) == expected
    assert len(list(tmp_path.iterdir())) == 2


def test_a_child_that_ends_by_itself_leaves_the_parents_files_alone(feeds, tmp_path):
    program = """
        import os, sys
        import numpy as np
        import sparse_rt as srt
        from tests.test_forks import network, operators
        options = srt.SessionOptions(2, enable_profiling=True, profile_file_prefix=sys.argv[1])
        session = srt.InferenceSession(network(40), options)
        feeds = {"x": np.ones((40, 16), np.float32)}
        session.run(None, feeds)
        if os.fork() == 0:
            session.run(None, feeds)
            sys.exit(7)
        print(os.waitstatus_to_exitcode(os.wait()[1]))
        print(operators(session).count("Softplus"))
    """
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(program), str(tmp_path / "p")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert (done.stdout.split(), done.returncode) == (["7", "3"], 0), done.stderr


def test_a_child_of_a_thread(feeds):
    proto = network("r")
    session, found = srt.InferenceSession(proto, srt.SessionOptions(2)), []
    thread = threading.Thread(
        target=lambda: found.append(forked(lambda: equals(session, feeds, stock(proto, feeds)[0])))
    )
    thread.start()
    thread.join(SECONDS)
    assert found == ["True"]


def _run_in_pool(x):
    return _pooled.run(None, {"x": x})[0]


def test_a_pool_of_forked_processes(feeds):
    global _pooled  # noqa: PLW0603  how a forked pool gets what cannot be pickled
    proto = network("r")
    _pooled = srt.InferenceSession(proto, srt.SessionOptions(2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        with multiprocessing.get_context("fork").Pool(2) as pool:
            found = pool.map_async(_run_in_pool, [feeds["x"][:rows] for rows in (3, 40, 17, 1)]).get(SECONDS)
    for y in found:
        np.testing.assert_allclose(y, stock(proto, {"x": feeds["x"][: len(y)]})[0], rtol=1e-4, atol=1e-4)


def test_operators_in_parallel(feeds):
    proto = network(40)
    options = srt.SessionOptions(2, execution_mode=ort.ExecutionMode.ORT_PARALLEL, inter_op_num_threads=2)
    session = srt.InferenceSession(proto, options)
    assert forked(lambda: equals(session, feeds, stock(proto, feeds)[0])) == "True"


def test_a_file_that_has_changed_is_refused(feeds, tmp_path, monkeypatch):
    path = tmp_path / "dense.onnx"
    path.write_bytes(dense_network(40).SerializeToString())
    monkeypatch.chdir(tmp_path)
    session = srt.InferenceSession("dense.onnx", srt.SessionOptions(2))
    (expected,) = session.run(None, feeds)
    monkeypatch.chdir("/")
    assert forked(lambda: equals(session, feeds, expected)) == "True"
    path.write_bytes(network(40).SerializeToString())
    assert forked(lambda: session.run(None, feeds)).startswith("ModelError: model '")
    np.testing.assert_array_equal(session.run(None, feeds)[0], expected)


@contextlib.contextmanager
def hammering(work):
    """Another thread does `work` again and again meanwhile."""
    stop, begun = threading.Event(), threading.Event()

    def repeat():
        while not stop.is_set():
            work()
            begun.set()

    thread = threading.Thread(target=repeat)
    thread.start()
    begun.wait(SECONDS)
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("kind", ["sparse", "dense"])
@pytest.mark.parametrize("threads", [1, 2])
def test_forks_while_another_thread_runs(kind, threads, feeds):
    proto = NETWORKS[kind](40)
    session = srt.InferenceSession(proto, srt.SessionOptions(threads))
    (expected,) = session.run(None, feeds)
    with hammering(lambda: session.run(None, feeds)):
        for _ in range(8):
            assert forked(lambda: equals(session, feeds, expected)) == "True"


def test_forks_while_another_thread_makes_sessions(feeds):
    proto = network(40)
    (expected,) = stock(proto, feeds)
    session = srt.InferenceSession(proto, srt.SessionOptions(2))
    with hammering(lambda: srt.InferenceSession(proto, srt.SessionOptions(2)).run(None, feeds)):
        for _ in range(4):
            assert forked(lambda: equals(session, feeds, expected)) == "True"


def test_what_a_fork_interrupts_is_refused_by_name(feeds, monkeypatch):
    """A thread that opens a session for longer than a fork waits: its locks are held for ever in the child."""
    session = srt.InferenceSession(network(40), srt.SessionOptions(2))
    opening = engine_module._OPENING
    release, begun = threading.Event(), threading.Event()

    def open_slowly():
        begun.set()
        release.wait(SECONDS)

    monkeypatch.setattr(opening, "patience", 0.05)
    monkeypatch.setattr(opening, "is_part", lambda code: code is open_slowly.__code__)
    thread = threading.Thread(target=open_slowly)
    thread.start()
    begun.wait(SECONDS)
    try:
        assert forked(lambda: session.run(None, feeds)).startswith("ForkError: onnxruntime session: expected")
        assert forked(lambda: srt.InferenceSession(network(40))).startswith("ForkError: ")
    finally:
        release.set()
        thread.join()
    assert equals(session, feeds, stock(network(40), feeds)[0])


def test_a_fork_waits_for_what_would_leave_the_child_without(monkeypatch):
    release, begun = threading.Event(), threading.Event()

    def hold():
        begun.set()
        release.wait(SECONDS)

    activity = forks.Activity("held a lock", lambda code: code is hold.__code__, patience=SECONDS)
    monkeypatch.setattr(forks, "_activities", [activity])
    thread = threading.Thread(target=hold)
    thread.start()
    begun.wait(SECONDS)
    threading.Timer(0.1, release.set).start()
    assert forked(lambda: (release.is_set(), activity.was_under_way)) == "(True, False)"
    thread.join()
    activity.was_under_way = True
    with pytest.raises(forks.ForkedError, match="held a lock"):
        forks.refuse_after(activity, "test")
