"""Threads for kernels: a small pool that sleeps while idle and never outlives its owner."""

import functools
import itertools
import os
import queue
import threading
import time
import weakref
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sparse_rt_kernels.cpu.placement import current_cpu, keep_off
from sparse_rt_kernels.jit import forks
from sparse_rt_kernels.jit.entry import kernel_entry
from sparse_rt_kernels.threads import atomics, workers
from sparse_rt_kernels.threads.launch import Launch
from sparse_rt_kernels.threads.sequence import LaunchSequence
from sparse_rt_kernels.threads.workspace import address_of, aligned_empty, scratch_address

__all__ = ["ThreadPool"]

#: How long a worker looks for its next task before it sleeps. Waking one takes 30 to 60 us on a virtual machine, as
#: long as many layers; what lies between two layers of a model mostly takes less than this.
_LOOK_SECONDS: Final = 200e-6
#: After how many calls workers are put in their place again (7 us): what the caller may use can change.
_CALLS_BETWEEN_LOOKS: Final = 256


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


def _stop(jobs: "queue.SimpleQueue[_Job | None]", count: int, pid: int) -> None:
    if pid == os.getpid():  # a forked child has none of these workers
        for _ in range(count):
            jobs.put(None)


@kernel_entry
def _call(function: int, task: int, arguments: int, x: int, other: int, out: int, shared: int, scratch: int) -> int:
    return atomics.call_task(function, task, arguments, x, other, out, shared, scratch)


@functools.cache
def _spins() -> int:
    """Return how many pauses of this CPU fill the time for which workers look for work."""
    count = 2_000
    workers.measure_pauses(1)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        workers.measure_pauses(count)
        times.append(time.perf_counter() - start)
    return max(1, int(_LOOK_SECONDS / min(times) * count))


class _Crew:
    """The worker threads of one process: those that run Python tasks, or those that run native ones."""

    def __init__(self, count: int, target: Callable[..., object], arguments: Callable[[int], tuple[object, ...]]):
        self.pid = os.getpid()
        self.threads = [
            threading.Thread(target=target, args=arguments(number), name=f"sparse_rt-{number + 1}", daemon=True)
            for number in range(count)
        ]
        for thread in self.threads:
            thread.start()
        self._ids = [thread.native_id for thread in self.threads if thread.native_id is not None]
        self._avoided = -1
        self._calls_left = 0

    def keep_off(self, cpu: int) -> None:
        """Keep all workers off a CPU, the caller's, and on those that the caller may use."""
        # Two callers at once may each move the workers off their own CPU; that is a matter of speed alone.
        self._calls_left -= 1
        if cpu != self._avoided or self._calls_left < 0:
            self._avoided = cpu
            self._calls_left = _CALLS_BETWEEN_LOOKS
            keep_off(cpu, self._ids)


class _PythonCrew(_Crew):
    """Workers that take Python callables from a queue."""

    def __init__(self, owner: object, count: int) -> None:
        self.jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        super().__init__(count, _serve, lambda number: (self.jobs,))
        weakref.finalize(owner, _stop, self.jobs, count, self.pid)


def _stop_team(block: object, address: int, threads: list[threading.Thread], pid: int) -> None:
    if pid != os.getpid():  # a forked child has none of these threads
        return
    workers.stop(address)
    for thread in threads:
        thread.join(timeout=1.0)


def _serve_team(block: object, address: int, worker: int) -> None:
    # The block is a parameter so that it lives as long as its workers.
    workers.serve(address, worker)


class _NativeCrew(_Crew):
    """Workers that take tasks without Python; see :mod:`sparse_rt_kernels.threads.workers`."""

    def __init__(self, owner: object, count: int) -> None:
        block = aligned_empty(workers.block_bytes(count))
        block[:] = 0
        self.address = int(block.ctypes.data)
        workers.prepare(self.address, count)
        super().__init__(count, _serve_team, lambda number: (block, self.address, number))
        weakref.finalize(owner, _stop_team, block, self.address, self.threads, self.pid)


class ThreadPool:
    """Run kernels on `threads` threads, the calling thread being one of them.

    Two kinds of work: a :class:`Launch` of native tasks, which workers take without Python and for which they look
    a short while before they sleep; and loops of Python callables that release the GIL, for portable kernels. Workers
    of a kind start with its first work.

    Numba's threading layers were not chosen: OpenMP needs a system library that a fresh machine may lack and spins
    after each loop, workqueue aborts the process when two threads enter it, and TBB is not found from PyPI. Here
    several threads may call at once, since a caller always works on its own job and never waits for a free
    worker; a forked child starts workers of its own. Workers are kept off the CPU that the caller runs on; see
    :mod:`sparse_rt_kernels.cpu.placement`.

    Parameters
    ----------
    threads
        How many threads take part in one call, at least 1.
    """

    def __init__(self, threads: int) -> None:
        if threads < 1:
            raise ValueError(f"ThreadPool: expected threads >= 1, got {threads}.")
        self.threads = threads
        self._lock = threading.Lock()
        self._python: _PythonCrew | None = None
        self._native: _NativeCrew | None = None
        self._spins = 0

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
        crew = self._python_crew()
        crew.keep_off(current_cpu())
        job = _Job(task, count)
        for _ in range(min(self.threads, count) - 1):
            crew.jobs.put(job)
        job.work()
        job.wait()
        if job.error is not None:
            raise job.error

    def launch(self, launch: Launch, x: int, other: int, out: int) -> bool:
        """Run `launch` on arrays at addresses, and return when all its tasks have ended. `other` may be 0.

        Returns whether a task asked that the launch be repeated in another way.
        """
        base = scratch_address("launch", launch.shared_bytes + self.threads * launch.stride)
        scratch = base + launch.shared_bytes
        if not workers.is_available():
            return self._launch_in_python(launch, x, other, out, base)
        arguments = (launch.address, launch.count, x, other, out, base, scratch, launch.stride)
        if self.threads == 1 or launch.width <= 1:
            return workers.dispatch(0, 0, *arguments) >= workers.REPEAT
        crew = self._native_crew()
        result = workers.dispatch(crew.address, self._spins, *arguments)
        crew.keep_off(result & (workers.REPEAT - 1))
        return result >= workers.REPEAT

    def launch_sequence(self, sequence: LaunchSequence, first: int, table: NDArray[np.int64]) -> int | None:
        """Run the launches of `sequence` from number `first` on the arrays whose addresses `table` holds.

        Returns the number of the launch of which a task asked that it be repeated in another way; later ones have not
        been run then. None if all have been.
        """
        if not workers.is_available():
            for number in range(first, sequence.count):
                sequence.run_one(number, table, self)
            return None
        base = scratch_address("launch", sequence.shared_bytes + self.threads * sequence.stride)
        scratch = base + sequence.shared_bytes
        crew = None if self.threads == 1 or sequence.width <= 1 else self._native_crew()
        result = workers.dispatch_sequence(
            0 if crew is None else crew.address,
            self._spins,
            sequence.address,
            first,
            sequence.count,
            address_of(table),
            base,
            scratch,
            sequence.stride,
        )
        if crew is not None:
            crew.keep_off(result & (workers.REPEAT - 1))
        return result // workers.REPEAT - 1 if result >= workers.REPEAT else None

    def warm_up(self) -> None:
        """Compile what runs launches, and start the workers that wait for them."""
        self.launch(Launch(()), 0, 0, 0)
        self.launch_sequence(LaunchSequence(()), 0, np.zeros(1, np.int64))
        if self.threads > 1 and workers.is_available():
            self._native_crew()

    def rest(self) -> None:
        """Send idle workers to sleep at once: another engine is about to use the CPUs."""
        crew = self._native
        if crew is not None and crew.pid == os.getpid():
            workers.rest(crew.address)

    def _launch_in_python(self, launch: Launch, x: int, other: int, out: int, shared: int) -> bool:
        """Run native tasks on Python threads, where a team cannot be."""
        results = []
        for function, arguments, tasks, _ in launch.words.tolist():

            def task(number: int, function: int = function, arguments: int = arguments) -> None:
                own = scratch_address("task", launch.stride)
                results.append(_call(function, number, arguments, x, other, out, shared, own))

            self.run(task, tasks)
        return any(results)

    def _python_crew(self) -> _PythonCrew:
        crew = self._python
        if crew is None or crew.pid != os.getpid():
            with self._lock:
                crew = self._python
                if crew is None or crew.pid != os.getpid():
                    crew = self._python = _PythonCrew(self, self.threads - 1)
        return crew

    def _native_crew(self) -> _NativeCrew:
        crew = self._native
        if crew is None or crew.pid != os.getpid():
            with self._lock:
                crew = self._native
                if crew is None or crew.pid != os.getpid():
                    self._spins = _spins()
                    crew = self._native = _NativeCrew(self, self.threads - 1)
        return crew


#: Workers start under a lock, in a few milliseconds.
_LOCKED: Final = frozenset({ThreadPool._python_crew.__code__, ThreadPool._native_crew.__code__})
forks.watch(forks.Activity("started the workers of a pool", _LOCKED.__contains__, 1.0))
