"""Threads for kernels: a small pool that sleeps while idle and never outlives its owner."""

import itertools
import os
import queue
import threading
import weakref
from collections.abc import Callable

from sparse_rt_kernels.placement import current_cpu, keep_off

__all__ = ["ThreadPool"]


class _Job:
    """One parallel loop: indexes are handed out one by one to whoever asks."""

    def __init__(self, task: Callable[[int], None], count: int) -> None:
        self._task = task
        self._count = count
        self._indexes = itertools.count()
        self._left = count
        self._lock = threading.Lock()
        self._finished = threading.Event()
        self.error: BaseException | None = None

    def work(self) -> None:
        # next() on itertools.count is one bytecode-level call under the GIL, so no two threads get one index.
        while (index := next(self._indexes)) < self._count:
            try:
                if self.error is None:
                    self._task(index)
            except BaseException as error:  # handed to the caller, who raises it
                self.error = error
            with self._lock:
                self._left -= 1
                if self._left == 0:
                    self._finished.set()

    def wait(self) -> None:
        self._finished.wait()


def _serve(jobs: "queue.SimpleQueue[_Job | None]") -> None:
    while (job := jobs.get()) is not None:
        job.work()
        # A worker that waits for its next job must not keep the last one's arrays alive.
        del job


def _stop(jobs: "queue.SimpleQueue[_Job | None]", workers: int) -> None:
    for _ in range(workers):
        jobs.put(None)


class ThreadPool:
    """Run nogil kernel calls on `threads` threads, the calling thread being one of them.

    Python threads were chosen over Numba's layers: OpenMP needs a system library that a fresh machine may lack and
    spins after each loop, workqueue aborts the process when two threads enter it, and TBB is not found from PyPI. Idle
    workers block on a queue, so nothing spins; several threads may call :meth:`run` at once, since a caller always
    works on its own loop and never waits for a free worker; a forked child starts workers of its own. Workers are kept
    off the CPU that the caller runs on; see :mod:`sparse_rt_kernels.placement`.

    Parameters
    ----------
    threads
        How many threads take part in one loop, at least 1.
    """

    def __init__(self, threads: int) -> None:
        if threads < 1:
            raise ValueError(f"ThreadPool: expected threads >= 1, got {threads}.")
        self.threads = threads
        self._lock = threading.Lock()
        self._pid = -1
        self._thread_ids: list[int] = []
        self._avoided = -1
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()

    def _start(self) -> None:
        with self._lock:
            if self._pid == os.getpid():
                return
            jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
            workers = [
                threading.Thread(target=_serve, args=(jobs,), name=f"sparse_rt-{number + 1}", daemon=True)
                for number in range(self.threads - 1)
            ]
            for worker in workers:
                worker.start()
            self._thread_ids = [worker.native_id for worker in workers if worker.native_id is not None]
            self._avoided = -1
            weakref.finalize(self, _stop, jobs, self.threads - 1)
            self._jobs = jobs
            self._pid = os.getpid()

    def run(self, task: Callable[[int], None], count: int) -> None:
        """Call ``task(i)`` for every i in [0, count), in any order, and return when all have ended.

        The first exception that a task raises is raised here; indexes not yet begun are then skipped.
        """
        if count == 1 or self.threads == 1:
            for index in range(count):
                task(index)
            return
        if count == 0:
            return
        if self._pid != os.getpid():
            self._start()
        # Two callers at once may each move the workers off their own CPU; that is a matter of speed alone.
        cpu = current_cpu()
        if cpu != self._avoided:
            self._avoided = cpu
            keep_off(cpu, self._thread_ids)
        job = _Job(task, count)
        for _ in range(min(self.threads, count) - 1):
            self._jobs.put(job)
        job.work()
        job.wait()
        if job.error is not None:
            raise job.error
