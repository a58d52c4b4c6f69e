"""Threads for kernels: a small pool that sleeps while idle and never outlives its owner."""

import functools
import os
import threading
import time
import weakref
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sparse_rt_kernels.cpu.placement import keep_off
from sparse_rt_kernels.jit import forks
from sparse_rt_kernels.threads import workers
from sparse_rt_kernels.threads.block import block_bytes
from sparse_rt_kernels.threads.dispatch import REPEAT, dispatch, dispatch_sequence
from sparse_rt_kernels.threads.launch import Launch
from sparse_rt_kernels.threads.sequence import LaunchSequence
from sparse_rt_kernels.threads.without_workers import run_phases
from sparse_rt_kernels.threads.workspace import address_of, aligned_empty, scratch_address

__all__ = ["ThreadPool"]

#: How long a worker looks for its next task before it sleeps. Waking one takes 30 to 60 us on a virtual machine, as
#: long as many layers; what lies between two layers of a model mostly takes less than this.
_LOOK_SECONDS: Final = 200e-6
#: After how many calls workers are put in their place again (7 us): what the caller may use can change.
_CALLS_BETWEEN_LOOKS: Final = 256


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


def _stop(block: object, address: int, threads: list[threading.Thread], pid: int) -> None:
    if pid != os.getpid():  # a forked child has none of these threads
        return
    workers.stop(address)
    for thread in threads:
        thread.join(timeout=1.0)


def _serve(block: object, address: int, worker: int) -> None:
    # The block is a parameter so that it lives as long as its workers.
    workers.serve(address, worker)


class _Workers:
    """The worker threads of one process; see :mod:`sparse_rt_kernels.threads.workers`."""

    def __init__(self, owner: object, count: int) -> None:
        self.pid = os.getpid()
        block = aligned_empty(block_bytes(count))
        block[:] = 0
        self.address = int(block.ctypes.data)
        workers.prepare(self.address, count)
        self.threads = [
            threading.Thread(
                target=_serve, args=(block, self.address, number), name=f"sparse_rt-{number + 1}", daemon=True
            )
            for number in range(count)
        ]
        for thread in self.threads:
            thread.start()
        self._ids = [thread.native_id for thread in self.threads if thread.native_id is not None]
        self._avoided = -1
        self._calls_left = 0
        weakref.finalize(owner, _stop, block, self.address, self.threads, self.pid)

    def keep_off(self, cpu: int) -> None:
        """Keep all workers off a CPU, the caller's, and on those that the caller may use."""
        # Two callers at once may each move the workers off their own CPU; that is a matter of speed alone.
        self._calls_left -= 1
        if cpu != self._avoided or self._calls_left < 0:
            self._avoided = cpu
            self._calls_left = _CALLS_BETWEEN_LOOKS
            keep_off(cpu, self._ids)


class ThreadPool:
    """Run launches on `threads` threads, the calling thread being one of them.

    Workers start with the first launch that has work for them. They take tasks without Python, and look for the next
    ones a short while before they sleep.

    Numba's threading layers were not chosen: OpenMP needs a system library that a fresh machine may lack and spins
    after each loop, workqueue aborts the process when two threads enter it, and TBB is not found from PyPI. Here
    several threads may call at once, since a caller always works on its own job and never waits for a free
    worker; a forked child starts workers of its own. Workers are kept off the CPU that the caller runs on; see
    :mod:`sparse_rt_kernels.cpu.placement`. Where there can be none, see :mod:`.without_workers`.

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
        self._started: _Workers | None = None
        self._spins = 0

    def launch(self, launch: Launch, x: int, other: int, out: int) -> bool:
        """Run `launch` on arrays at addresses, and return when all its tasks have ended. `other` may be 0.

        Returns whether a task asked that the launch be repeated in another way.
        """
        memory = self._memory(launch)
        if not workers.is_available():
            return run_phases(launch, self.threads, (x, other, out, memory))
        if self.threads == 1 or launch.width <= 1:
            return dispatch(0, 0, launch.header, x, other, out, memory) >= REPEAT
        found = self._workers()
        result = dispatch(found.address, self._spins, launch.header, x, other, out, memory)
        found.keep_off(result & (REPEAT - 1))
        return result >= REPEAT

    def launch_sequence(self, sequence: LaunchSequence, first: int, table: NDArray[np.int64]) -> int | None:
        """Run the launches of `sequence` from number `first` on the arrays whose addresses `table` holds.

        Returns the number of the launch of which a task asked that it be repeated in another way; later ones have not
        been run then. None if all have been.
        """
        if not workers.is_available():
            for number in range(first, sequence.count):
                sequence.run_one(number, table, self)
            return None
        memory = self._memory(sequence)
        found = None if self.threads == 1 or sequence.width <= 1 else self._workers()
        block = 0 if found is None else found.address
        result = dispatch_sequence(block, self._spins, sequence.header, first, address_of(table), memory)
        if found is not None:
            found.keep_off(result & (REPEAT - 1))
        return result // REPEAT - 1 if result >= REPEAT else None

    def warm_up(self) -> None:
        """Compile what runs launches, and start the workers that wait for them."""
        self.launch(Launch(()), 0, 0, 0)
        self.launch_sequence(LaunchSequence(()), 0, np.zeros(1, np.int64))
        if self.threads > 1 and workers.is_available():
            self._workers()

    def rest(self) -> None:
        """Send idle workers to sleep at once: another engine is about to use the CPUs."""
        found = self._started
        if found is not None and found.pid == os.getpid():
            workers.rest(found.address)

    def _memory(self, launched: Launch | LaunchSequence) -> int:
        """Return the address of scratch memory for all threads."""
        return scratch_address("launch", launched.shared_bytes + self.threads * launched.stride)

    def _workers(self) -> _Workers:
        found = self._started
        if found is None or found.pid != os.getpid():
            with self._lock:
                found = self._started
                if found is None or found.pid != os.getpid():
                    self._spins = _spins()
                    found = self._started = _Workers(self, self.threads - 1)
        return found


#: Workers start under a lock, in a few milliseconds.
_LOCKED: Final = frozenset({ThreadPool._workers.__code__})
forks.watch(forks.Activity("started the workers of a pool", _LOCKED.__contains__, 1.0))
