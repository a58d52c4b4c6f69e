"""Threads of a plan's islands: as many as were asked for, not as there are islands, on CPUs of the process."""

import os
import subprocess
import sys

import numpy as np
import onnx_ir as ir
import pytest

import sparse_rt as srt
from sparse_rt.plan.islands.island_threads import island_threads
from tests.models.onnx_models import stock
from tests.test_forks import WIDTH, network

PROGRAM = """
import os, sys
import numpy as np
import sparse_rt as srt
from tests.test_forks import network
threads, islands = map(int, sys.argv[1:3])
before = set(os.listdir("/proc/self/task"))
session = srt.InferenceSession(network("r", islands), srt.SessionOptions(threads, tuning="sparse"))
session.run(None, {"x": np.ones((40, 16), np.float32)})
tasks = [int(task) for task in os.listdir("/proc/self/task") if task not in before]
print(len(tasks), *sorted({cpu for task in tasks for cpu in os.sched_getaffinity(task)}))
"""


def tasks(threads, islands, *prefix):
    """Return how many threads a session starts, and which CPUs they may use."""
    command = [*prefix, sys.executable, "-c", PROGRAM, str(threads), str(islands)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    count, *cpus = map(int, done.stdout.split())
    return count, set(cpus)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts threads in /proc")
@pytest.mark.parametrize(("threads", "most"), [(2, 10), (16, 46)])
def test_threads_do_not_multiply_with_islands(threads, most):
    count, cpus = tasks(threads, 49)
    assert threads - 1 <= count <= most
    assert cpus <= os.sched_getaffinity(0)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
@pytest.mark.parametrize("threads", [0, 3])
def test_threads_stay_on_the_cpus_of_the_process(threads):
    """onnxruntime by itself takes every core, and binds a thread to each."""
    cpu = min(os.sched_getaffinity(0))
    code = f"import os, sys; os.sched_setaffinity(0, {{{cpu}}}); os.execv(sys.argv[1], sys.argv[1:])"
    count, cpus = tasks(threads, 2, sys.executable, "-c", code)
    assert cpus <= {cpu}
    assert threads or count <= 1  # one of onnxruntime's own


def test_default_threads_are_those_of_the_moment():
    """A session is made for what the process may use then; its plan does not change with it."""
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("needs Linux")
    before = os.sched_getaffinity(0)
    feeds = {"x": np.ones((40, WIDTH), np.float32)}
    proto = network("r")
    try:
        os.sched_setaffinity(0, {min(before)})
        session = srt.InferenceSession(proto)
        assert session.pool.threads == 1
        assert session.get_session_options().intra_op_num_threads == 0
        os.sched_setaffinity(0, before)
        np.testing.assert_allclose(session.run(None, feeds)[0], stock(proto, feeds)[0], rtol=1e-4, atol=1e-4)
        assert session.pool.threads == 1
    finally:
        os.sched_setaffinity(0, before)


def _node(op_type, *shape, weight=None):
    x = ir.Value(name="x", shape=ir.Shape(shape) if shape else None)
    inputs = [x]
    if weight is not None:
        inputs.append(ir.Value(name="w", shape=ir.Shape(weight), const_value=ir.tensor(np.zeros(weight, np.float32))))
    return ir.Node("", op_type, inputs, outputs=[ir.Value(name="y", shape=x.shape)])


def test_the_islands_with_the_most_work_have_threads():
    large, small, product = _node("Sin", 512, 512), _node("Sin", 4, "n"), _node("MatMul", 512, 512, weight=(64, 64))
    free, unknown = _node("Reshape", 4096, 4096), _node("Sin")
    assert island_threads([[large], [free], [], [small]], 1) == [1, 1, 1, 1]
    assert island_threads([[large], [free], [], [small]], 2) == [2, 1, 1, 2]
    assert island_threads([[small], [large], [unknown], [small, small], [free]], 16) == [1, 16, 16, 1, 1]
    assert island_threads([[large]] * 20, 2).count(2) == 8
    assert island_threads([[large]] * 20, 5).count(5) == 2
    assert island_threads([[large], [free, large], [product]], 9) == [9, 1, 9]
