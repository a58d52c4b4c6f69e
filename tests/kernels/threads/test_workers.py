"""Native tasks on the pool's threads: every task once, whoever calls, and nothing left running."""

import gc
import multiprocessing
import os
import threading
import time

import numpy as np
import pytest
from numba import carray
from numba.core import config
from sparse_rt_kernels.threads import pool, workers
from sparse_rt_kernels.threads.launch import Launch, Phase
from sparse_rt_kernels.threads.pool import ThreadPool
from sparse_rt_kernels.threads.sequence import NO_OTHER, Bound, LaunchSequence, table_at
from sparse_rt_kernels.threads.workspace import as_pointer

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="native tasks are machine code")

COUNT = np.dtype([("spins", "i8"), ("answer", "i8")])


def count_task(task, arguments, x, other, out, shared, scratch):
    """Add 1 to counter `task` of out, after some work in scratch."""
    a = carray(arguments, (1,), COUNT)[0]
    held = carray(as_pointer(scratch), (8,), np.int64)
    held[0] = task
    for spin in range(a.spins):
        held[1 + spin % 7] = spin
    counters = carray(as_pointer(out), (task + 1,), np.int64)
    counters[task] += 1 + held[0] - task
    return a.answer


def double_task(task, arguments, x, other, out, shared, scratch):
    """Double counter `task` of out."""
    counters = carray(as_pointer(out), (task + 1,), np.int64)
    counters[task] *= 2
    return 0


def counting(tasks, spins=0, answer=0, **others):
    return Launch([Phase(count_task, np.array([(spins, answer)], COUNT), tasks)], 0, 64, **others)


def run(launch, pool, tasks):
    out = np.zeros(max(tasks, 1), np.int64)
    launch.run(out, out, pool)
    return out[:tasks]


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("tasks", [0, 1, 2, 3, 100])
def test_every_task_runs_once(threads, tasks):
    pool, launch = ThreadPool(threads), counting(tasks)
    for _ in range(20):
        np.testing.assert_array_equal(run(launch, pool, tasks), 1)


def test_workers_that_slept_wake_up():
    pool, launch = ThreadPool(3), counting(16, spins=1000)
    for _ in range(30):
        np.testing.assert_array_equal(run(launch, pool, 16), 1)
        time.sleep(0.002)


def test_phases_wait_for_each_other():
    pool = ThreadPool(4)
    record = np.array([(200, 0)], COUNT)
    phases = [Phase(count_task, record, 32), Phase(double_task, record, 32), Phase(count_task, record, 32)]
    launch = Launch(phases, 0, 64)
    for _ in range(50):
        np.testing.assert_array_equal(run(launch, pool, 32), 3)


def test_callers_at_the_same_time():
    pool, launch = ThreadPool(3), counting(40, spins=500)
    wrong = []

    def call():
        for _ in range(200):
            if not (run(launch, pool, 40) == 1).all():
                wrong.append(1)

    callers = [threading.Thread(target=call) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("tasks", [1, 8])
def test_a_task_may_ask_for_another_way(threads, tasks):
    launch = counting(tasks, answer=1, otherwise=counting(tasks))
    np.testing.assert_array_equal(run(launch, ThreadPool(threads), tasks), 2)


def test_answers_do_not_outlive_their_call():
    pool = ThreadPool(2)
    run(counting(8, answer=1), pool, 8)
    launch = counting(8, otherwise=counting(8))
    np.testing.assert_array_equal(run(launch, pool, 8), 1)


def test_threads_of_a_phase_take_over_where_there_are_no_workers(monkeypatch):
    monkeypatch.setattr(workers, "is_available", lambda: False)
    launch = counting(8, answer=1, otherwise=counting(8))
    np.testing.assert_array_equal(run(launch, ThreadPool(3), 8), 2)


def run_sequence(launches, pool, tasks):
    """Run launches on counters of their own."""
    outs = np.zeros((len(launches), tasks), np.int64)
    bound = [Bound(launch, number, NO_OTHER, number) for number, launch in enumerate(launches)]
    LaunchSequence(bound).run(np.array([out.ctypes.data for out in outs], np.int64), pool)
    return outs


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("tasks", [1, 7])
def test_every_task_of_a_sequence_runs_once(threads, tasks):
    pool = ThreadPool(threads)
    for _ in range(20):
        np.testing.assert_array_equal(run_sequence([counting(tasks, spins=50)] * 9, pool, tasks), 1)


@pytest.mark.parametrize("threads", [1, 3])
def test_a_launch_of_a_sequence_is_repeated_before_the_next(threads):
    again = counting(6, answer=1, otherwise=counting(6))
    launches = [counting(6), again, counting(6), again, again, counting(6, answer=1)]
    outs = run_sequence(launches, ThreadPool(threads), 6)
    np.testing.assert_array_equal(outs, np.repeat([[1], [2], [1], [2], [2], [1]], 6, axis=1))


def test_sequences_run_where_there_are_no_workers(monkeypatch):
    monkeypatch.setattr(workers, "is_available", lambda: False)
    again = counting(6, answer=1, otherwise=counting(6))
    np.testing.assert_array_equal(run_sequence([counting(6), again], ThreadPool(2), 6), [[1] * 6, [2] * 6])


def sum_task(task, arguments, x, other, out, shared, scratch):
    """Write the sum of x's number and of the numbers at the addresses in the table `other`."""
    table = carray(as_pointer(other), (2,), np.int64)
    total = carray(as_pointer(x), (1,), np.int64)[0]
    for entry in range(2):
        total += carray(as_pointer(table[entry]), (1,), np.int64)[0]
    carray(as_pointer(out), (1,), np.int64)[0] = total
    return 0


def test_a_launch_of_a_sequence_may_read_a_table_of_arrays():
    launch = Launch([Phase(sum_task, np.zeros(1, COUNT), 1)])
    values = np.array([1, 10, 100, 0], np.int64)
    table = np.array([values.ctypes.data + 8 * at for at in (3, 0, 1, 2)], np.int64)
    LaunchSequence([Bound(launch, 1, table_at(2), 0)]).run(table, ThreadPool(1))
    assert values[3] == 111


def test_nothing_spins_after_a_run():
    pool, launch = ThreadPool(2), counting(2, spins=10_000)
    run(launch, pool, 2)
    time.sleep(0.05)
    before = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - before < 0.1


def test_rest_sends_workers_to_sleep_and_work_wakes_them():
    pool, launch = ThreadPool(2), counting(6)
    pool.rest()
    for _ in range(50):
        np.testing.assert_array_equal(run(launch, pool, 6), 1)
        pool.rest()


def test_workers_end_with_their_pool():
    before = threading.active_count()
    pool = ThreadPool(4)
    run(counting(8), pool, 8)
    assert threading.active_count() == before + 3
    del pool
    gc.collect()
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before


def _in_child(pool, launch, answer):
    answer.put(bool((run(launch, pool, 12) == 1).all()))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_starts_workers_of_its_own():
    pool, launch = ThreadPool(3), counting(12, spins=100)
    run(launch, pool, 12)
    context = multiprocessing.get_context("fork")
    answer = context.SimpleQueue()
    child = context.Process(target=_in_child, args=(pool, launch, answer))
    child.start()
    child.join(30)
    assert child.exitcode == 0
    assert answer.get()
    np.testing.assert_array_equal(run(launch, pool, 12), 1)


def test_pauses_are_counted_in_time():
    assert pool._spins() > 0
