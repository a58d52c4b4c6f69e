"""Workers of a pool are kept off the CPU that the caller runs on."""

import os
import sys
import threading
import time

import numpy as np
import pytest
from numba.core import config
from sparse_rt_kernels.cpu import placement
from sparse_rt_kernels.threads import pool
from sparse_rt_kernels.threads.launch import Launch, Phase

linux_only = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux")


@linux_only
def test_current_cpu_is_one_the_thread_may_use():
    assert placement.current_cpu() in os.sched_getaffinity(0)


@linux_only
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")
def test_a_thread_is_moved_and_the_caller_is_not():
    before = os.sched_getaffinity(0)
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait, daemon=True)
    thread.start()
    try:
        for cpu in sorted(before):
            assert placement.keep_off(cpu, [thread.native_id])
            assert os.sched_getaffinity(thread.native_id) == before - {cpu}
            assert os.sched_getaffinity(0) == before
    finally:
        stop.set()
        thread.join()


@linux_only
def test_what_cannot_be_done_is_said_and_harmless():
    assert not placement.keep_off(-1, [])
    ended = threading.Thread(target=lambda: None)
    ended.start()
    ended.join()
    deadline = time.monotonic() + 10
    while os.path.exists(f"/proc/self/task/{ended.native_id}") and time.monotonic() < deadline:
        time.sleep(0.001)  # join returns a little before the system's thread is gone
    assert not placement.keep_off(placement.current_cpu(), [ended.native_id])


def _nothing_task(task, arguments, x, other, out, shared, scratch):
    return 0


@linux_only
@pytest.mark.skipif(bool(config.DISABLE_JIT), reason="native tasks are machine code")
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")
def test_workers_follow_what_their_caller_may_use():
    """Also where it may use one CPU alone, and where that changes after they have started."""
    before = os.sched_getaffinity(0)
    threads, launch, nothing = pool.ThreadPool(3), Launch([Phase(_nothing_task, np.zeros(1), 3)]), np.zeros(1)

    def places():
        for _ in range(pool._CALLS_BETWEEN_LOOKS + 2):
            launch.run(nothing, nothing, threads)
        return [os.sched_getaffinity(thread.native_id) for thread in threads._workers().threads]

    try:
        assert all(place <= before for place in places())
        for cpu in sorted(before):
            os.sched_setaffinity(0, {cpu})
            assert places() == [{cpu}, {cpu}]
    finally:
        os.sched_setaffinity(0, before)
    found = places()
    assert all(place <= before for place in found)
    assert set.union(*found) != {placement.current_cpu()}
