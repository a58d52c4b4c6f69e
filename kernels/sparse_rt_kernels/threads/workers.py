"""Workers: native threads that take kernel tasks without Python, look for the next ones a while, then sleep.

A task is the address of a C function (see :func:`.compilation.kernel_task`). One caller at a time publishes a job,
which is a number of tasks (:mod:`.dispatch`); caller and workers claim them one by one. What they share is one block of
words (:mod:`.block`).

A worker reads the job between seeing a ticket and claiming from a ticket of the same generation: the claim proves that
the job was not over, so that what it read belongs together. It sleeps on a POSIX semaphore, and whoever clears
its word of sleep posts it, so that no wake-up is lost and none is left over.
"""

import sys
from typing import Any

from sparse_rt_kernels.cpu.settings import settings
from sparse_rt_kernels.jit.compilation import kernel_jit
from sparse_rt_kernels.jit.compiler import external
from sparse_rt_kernels.jit.entry import kernel_entry
from sparse_rt_kernels.threads import atomics
from sparse_rt_kernels.threads.block import (
    COUNT,
    DONE,
    JOB,
    RESULT,
    SEMAPHORE,
    SPINS,
    STOP,
    TICKET,
    WORKER,
    WORKER_BYTES,
    WORKERS,
)

__all__ = ["is_available", "measure_pauses", "prepare", "rest", "serve", "stop", "wake", "work"]

_sem_init: Any = external("sem_init", "intc", "intp", "intc", "uintc")
_sem_post: Any = external("sem_post", "intc", "intp")
_sem_wait: Any = external("sem_wait", "intc", "intp")


def is_available() -> bool:
    """Return whether there can be workers: machine code, and unnamed semaphores, of which macOS has none."""
    return sys.platform.startswith("linux") and not settings().is_disabled


@kernel_entry
def prepare(block: int, workers: int) -> int:
    """Make a block of zeros, aligned to 64 bytes, ready for `workers` workers."""
    atomics.exchange(block + WORKERS, workers)
    for worker in range(workers):
        _sem_init(block + WORKER + worker * WORKER_BYTES + SEMAPHORE, 0, 0)
    return 0


@kernel_entry
def measure_pauses(count: int) -> int:
    """Pause `count` times, as a worker does that waits."""
    for _ in range(count):
        atomics.pause()
    return 0


@kernel_jit
def work(block: int, participant: int, ticket: int) -> int:
    """Claim tasks of the generation of `ticket` and carry them out until none is left."""
    generation = ticket >> 32
    job = block + JOB
    function, arguments = atomics.load(job), atomics.load(job + 8)
    x, other, out = atomics.load(job + 16), atomics.load(job + 24), atomics.load(job + 32)
    shared, scratch = atomics.load(job + 40), atomics.load(job + 48) + participant * atomics.load(job + 56)
    tasks = atomics.load(job + 64)
    while ticket >> 32 == generation and ticket & COUNT > 0:
        if atomics.compare_exchange(block + TICKET, ticket, ticket - 1):
            if atomics.call_task(function, tasks - (ticket & COUNT), arguments, x, other, out, shared, scratch) != 0:
                atomics.exchange(block + RESULT, 1)
            atomics.fetch_add(block + DONE, 1)
        ticket = atomics.load(block + TICKET)
    return 0


@kernel_jit
def _sleep(block: int, mine: int, seen: int) -> int:
    """Sleep until someone posts the semaphore of the worker at `mine`, unless there is something to do already."""
    atomics.exchange(mine, 1)
    is_needed = atomics.load(block + TICKET) >> 32 != seen or atomics.load(block + STOP) != 0
    if is_needed and atomics.compare_exchange(mine, 1, 0):
        return 0
    while _sem_wait(mine + SEMAPHORE) != 0:
        pass
    return 0


@kernel_entry
def serve(block: int, worker: int) -> int:
    """Be worker number `worker` of those of `block` until it stops."""
    mine = block + WORKER + worker * WORKER_BYTES
    seen = 0
    looks = 0
    while atomics.load(block + STOP) == 0:
        ticket = atomics.load(block + TICKET)
        if ticket >> 32 != seen:
            seen = ticket >> 32
            work(block, worker + 1, ticket)
            looks = 0
        elif looks < atomics.load(block + SPINS):
            looks += 1
            atomics.pause()
        else:
            _sleep(block, mine, seen)
            looks = 0
    return 0


@kernel_jit
def wake(block: int, workers: int) -> int:
    """Wake as many workers as are needed for `workers` of them to be awake."""
    for worker in range(min(workers, atomics.load(block + WORKERS))):
        mine = block + WORKER + worker * WORKER_BYTES
        if atomics.load(mine) and atomics.compare_exchange(mine, 1, 0):
            _sem_post(mine + SEMAPHORE)
    return 0


@kernel_entry
def rest(block: int) -> int:
    """Send workers that wait for a job to sleep at once."""
    return atomics.exchange(block + SPINS, 0)


@kernel_entry
def stop(block: int) -> int:
    """Tell all workers to end, and wake them for it."""
    atomics.exchange(block + STOP, 1)
    return wake(block, atomics.load(block + WORKERS))
