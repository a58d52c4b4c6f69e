"""What happens at once: threads, signals, sessions that come and go, CPUs that change, processes that are killed.

``make stress`` runs all of it, and longer: the environment variable SPARSE_RT_STRESS says how many times as long.
"""

import _thread
import gc
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest

import sparse_rt as srt
from tests.models.onnx_models import normal, stock
from tests.test_forks import WIDTH, hammering, network

TIMES = int(os.environ.get("SPARSE_RT_STRESS", "1"))
ROWS = (1, 3, 8, 17, 40, 64, 5, 100)
SECONDS = 600

only_long = pytest.mark.skipif(TIMES == 1, reason="compiles from nothing, again and again: make stress")


@pytest.fixture(scope="module")
def proto():
    return network("r")


@pytest.fixture(scope="module")
def feeds():
    rng = np.random.default_rng(3)
    return [{"x": normal(rng, rows, WIDTH)} for rows in ROWS]


@pytest.fixture(scope="module")
def expected(proto, feeds):
    """What one thread computes alone."""
    session = srt.InferenceSession(proto, srt.SessionOptions(1))
    found = [session.run(None, each)[0] for each in feeds]
    for each, y in zip(feeds, found, strict=True):
        np.testing.assert_allclose(y, stock(proto, each)[0], rtol=1e-4, atol=1e-4)
    return found


def run_many(session, feeds, expected, order):
    for number in order:
        np.testing.assert_array_equal(session.run(None, feeds[number])[0], expected[number])


def in_threads(count, work):
    """Call ``work(number)`` in `count` threads; raise what the first of them raised."""
    failures = []

    def guarded(number):
        try:
            work(number)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
        assert not thread.is_alive()
    if failures:
        raise failures[0]


@pytest.mark.parametrize("threads", [1, 2])
def test_sixteen_threads_and_changing_shapes(threads, proto, feeds, expected):
    """Byte for byte what one thread computes, while other sessions are made and dropped."""
    session = srt.InferenceSession(proto, srt.SessionOptions(threads))

    def work(number):
        order = random.Random(number).choices(range(len(feeds)), k=40 * TIMES)
        run_many(session, feeds, expected, order)

    def make_one():
        run_many(srt.InferenceSession(proto, srt.SessionOptions(2)), feeds, expected, (0, 4))

    with hammering(make_one):
        in_threads(16, work)


def _resident():
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts in /proc")
def test_dropped_sessions_leave_nothing(proto, feeds, expected):
    def some(count):
        for _ in range(count):
            run_many(srt.InferenceSession(proto, srt.SessionOptions(2)), feeds, expected, (0, 7))
        gc.collect()

    some(10)
    threads, memory = len(os.listdir("/proc/self/task")), _resident()
    some(30 * TIMES)
    deadline = time.monotonic() + 20
    while len(os.listdir("/proc/self/task")) > threads and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(os.listdir("/proc/self/task")) <= threads
    # A session of this network takes a megabyte: a leak of each would be thirty.
    assert _resident() - memory < 12 << 20


@pytest.mark.parametrize("threads", [1, 2])
def test_interrupts_leave_a_session_usable(threads, proto, feeds, expected):
    """KeyboardInterrupt comes out of a run at any place, and the next run is right."""
    session = srt.InferenceSession(proto, srt.SessionOptions(threads))
    run_many(session, feeds, expected, range(len(feeds)))
    caught, stop = 0, threading.Event()
    is_armed = False

    def heed(number, frame):
        nonlocal caught, is_armed
        if is_armed:  # an interrupt while another is dealt with would end the test
            is_armed, caught = False, caught + 1
            raise KeyboardInterrupt

    def interrupt():
        pause = random.Random(threads)
        while not stop.is_set():
            time.sleep(pause.uniform(0.0002, 0.004))
            if not stop.is_set():
                _thread.interrupt_main()

    before = signal.signal(signal.SIGINT, heed)
    thread = threading.Thread(target=interrupt, daemon=True)
    try:
        thread.start()
        deadline = time.monotonic() + 2 * TIMES
        while time.monotonic() < deadline:
            try:
                is_armed = True
                for number in range(len(feeds)):
                    if not np.array_equal(session.run(None, feeds[number])[0], expected[number]):
                        pytest.fail(f"another result after {caught} interrupts")
                is_armed = False
            except KeyboardInterrupt:
                pass
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        stop.set()
        thread.join()
        signal.signal(signal.SIGINT, before)
    assert caught
    run_many(session, feeds, expected, range(len(feeds)))
    in_threads(4, lambda number: run_many(session, feeds, expected, range(len(feeds))))


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
def test_cpus_change_while_threads_run(proto, feeds, expected):
    session, cpus = srt.InferenceSession(proto, srt.SessionOptions(3)), sorted(os.sched_getaffinity(0))
    choices = [{cpu} for cpu in cpus] + [set(cpus)]

    def work(number):
        pick = random.Random(number)
        for _ in range(15 * TIMES):
            os.sched_setaffinity(0, pick.choice(choices))  # of this thread
            run_many(session, feeds, expected, pick.choices(range(len(feeds)), k=5))

    in_threads(4, work)


PROGRAM = """
import sys
import numpy as np
import sparse_rt as srt
from tests.test_forks import network
x = np.linspace(-1, 1, 40 * 16, dtype=np.float32).reshape(40, 16)
session = srt.InferenceSession(network("r"), srt.SessionOptions(2, tuning_seconds=0.2))
sys.stdout.write(session.run(None, {"x": x})[0].tobytes().hex())
"""


def started(cache, tuning):
    environment = {**os.environ, "SPARSE_RT_CACHE_DIR": str(cache), "SPARSE_RT_TUNING": tuning}
    command = [sys.executable, "-c", PROGRAM]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def answer(process):
    out, error = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, error
    return np.frombuffer(bytes.fromhex(out), np.float32)


def right():
    x = np.linspace(-1, 1, 40 * WIDTH, dtype=np.float32).reshape(40, WIDTH)
    return stock(network("r"), {"x": x})[0].ravel()


@only_long
@pytest.mark.parametrize("tuning", ["sparse", "on"])
def test_processes_compile_at_once(tuning, tmp_path):
    for process in [started(tmp_path, tuning) for _ in range(2)]:
        np.testing.assert_allclose(answer(process), right(), rtol=1e-4, atol=1e-4)


@only_long
@pytest.mark.parametrize("tuning", ["sparse", "on"])
def test_killed_while_it_compiles(tuning, tmp_path):
    """Each of a row of processes is killed at some moment, and finds what those before it left; the last one ends."""
    moments = random.Random(5)
    for _ in range(TIMES):
        process = started(tmp_path, tuning)
        try:
            process.wait(moments.uniform(0.5, 12))
        except subprocess.TimeoutExpired:
            process.kill()
        process.communicate()
    np.testing.assert_allclose(answer(started(tmp_path, tuning)), right(), rtol=1e-4, atol=1e-4)


def test_the_interpreter_exits_while_threads_run():
    """Daemon threads inside `run` are not waited for: the process may be aborted, as with onnxruntime, but ends."""
    program = """
        import threading, time
        import numpy as np
        import sparse_rt as srt
        from tests.test_forks import network
        session = srt.InferenceSession(network("r"), srt.SessionOptions(2))
        feeds = {"x": np.ones((40, 16), np.float32)}
        def work():
            while True:
                session.run(None, feeds)
        for _ in range(4):
            threading.Thread(target=work, daemon=True).start()
        time.sleep(0.2)
        print("end", flush=True)
    """
    for _ in range(TIMES):
        command = [sys.executable, "-c", textwrap.dedent(program)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.stdout == "end\n"
