"""A team of native threads: workers that take kernel tasks without Python, spin briefly between them, then sleep.

A task is the address of a C function (see :func:`.compilation.kernel_task`). One caller at a time publishes a
job, which is a number of tasks; caller and workers claim them one by one. What they share is one block of words:

    ticket    generation << 32 | tasks of that generation that nobody has claimed yet
    job       what a task is called with; written before the ticket that announces it
    done      tasks of the job that have ended
    result    1 when a task of the launch has returned anything but 0
    owner     1 while a caller uses the team
    stop      1 when workers must end
    spins     how often a worker looks for a ticket before it sleeps; 0 sends it to sleep at once
    worker    for each: whether it sleeps, and a semaphore

A worker reads the job between seeing a ticket and claiming from a ticket of the same generation: the claim proves that
the job was not over, so that what it read belongs together. It sleeps on a POSIX semaphore, and whoever clears
its word of sleep posts it, so that no wake-up is lost and none is left over.
"""

import sys
from typing import Any, Final

from sparse_rt_kernels.jit.compilation import kernel_jit
from sparse_rt_kernels.jit.compiler import external
from sparse_rt_kernels.jit.entry import kernel_entry
from sparse_rt_kernels.threads import atomics

__all__ = [
    "REPEAT",
    "block_bytes",
    "dispatch",
    "dispatch_sequence",
    "is_available",
    "measure_pauses",
    "prepare",
    "rest",
    "serve",
    "stop",
]

#: Added to what :func:`dispatch` returns when a task asks that the launch be repeated in another way.
REPEAT: Final = 1 << 32

_LINE: Final = 64
_TICKET: Final = 0 * _LINE
_DONE: Final = 1 * _LINE
_RESULT: Final = 1 * _LINE + 8
_OWNER: Final = 2 * _LINE
_STOP: Final = 3 * _LINE
_SPINS: Final = 3 * _LINE + 8
_WORKERS: Final = 3 * _LINE + 16
_JOB: Final = 4 * _LINE
_WORKER: Final = 6 * _LINE
#: Bytes of one worker: a line for its word of sleep, one for its semaphore (sem_t is 32 bytes in glibc and in musl).
_WORKER_BYTES: Final = 2 * _LINE
_COUNT: Final = 0xFFFFFFFF
_GENERATION: Final = 0x7FFFFFFF
#: Looks at `done` before a caller lets other threads have its core: its worker may wait for it.
_PATIENCE: Final = 20_000

_sem_init: Any = external("sem_init", "intc", "intp", "intc", "uintc")
_sem_post: Any = external("sem_post", "intc", "intp")
_sem_wait: Any = external("sem_wait", "intc", "intp")
_sched_yield: Any = external("sched_yield", "intc")
_sched_getcpu: Any = external("sched_getcpu", "intc")


def is_available() -> bool:
    """Return whether the system has what a team needs: unnamed semaphores, of which macOS has none."""
    return sys.platform.startswith("linux")


def block_bytes(workers: int) -> int:
    """Return the size of the block of a team with so many workers."""
    return _WORKER + workers * _WORKER_BYTES


@kernel_entry
def prepare(block: int, workers: int) -> int:
    """Make a block of zeros, aligned to 64 bytes, ready for `workers` workers."""
    atomics.exchange(block + _WORKERS, workers)
    for worker in range(workers):
        _sem_init(block + _WORKER + worker * _WORKER_BYTES + _LINE, 0, 0)
    return 0


@kernel_entry
def measure_pauses(count: int) -> int:
    """Pause `count` times, as a worker does that waits."""
    for _ in range(count):
        atomics.pause()
    return 0


@kernel_jit
def _work(block: int, participant: int, ticket: int) -> int:
    """Claim tasks of the generation of `ticket` and carry them out until none is left."""
    generation = ticket >> 32
    job = block + _JOB
    function, arguments = atomics.load(job), atomics.load(job + 8)
    x, other, out = atomics.load(job + 16), atomics.load(job + 24), atomics.load(job + 32)
    shared, scratch = atomics.load(job + 40), atomics.load(job + 48) + participant * atomics.load(job + 56)
    tasks = atomics.load(job + 64)
    while ticket >> 32 == generation and ticket & _COUNT > 0:
        if atomics.compare_exchange(block + _TICKET, ticket, ticket - 1):
            if atomics.call_task(function, tasks - (ticket & _COUNT), arguments, x, other, out, shared, scratch) != 0:
                atomics.exchange(block + _RESULT, 1)
            atomics.fetch_add(block + _DONE, 1)
        ticket = atomics.load(block + _TICKET)
    return 0


@kernel_jit
def _sleep(block: int, mine: int, seen: int) -> int:
    """Sleep until someone posts the semaphore of the worker at `mine`, unless there is something to do already."""
    atomics.exchange(mine, 1)
    is_needed = atomics.load(block + _TICKET) >> 32 != seen or atomics.load(block + _STOP) != 0
    if is_needed and atomics.compare_exchange(mine, 1, 0):
        return 0
    while _sem_wait(mine + _LINE) != 0:
        pass
    return 0


@kernel_entry
def serve(block: int, worker: int) -> int:
    """Be worker number `worker` of the team of `block` until it stops."""
    mine = block + _WORKER + worker * _WORKER_BYTES
    seen = 0
    looks = 0
    while atomics.load(block + _STOP) == 0:
        ticket = atomics.load(block + _TICKET)
        if ticket >> 32 != seen:
            seen = ticket >> 32
            _work(block, worker + 1, ticket)
            looks = 0
        elif looks < atomics.load(block + _SPINS):
            looks += 1
            atomics.pause()
        else:
            _sleep(block, mine, seen)
            looks = 0
    return 0


@kernel_jit
def _wake(block: int, workers: int) -> int:
    """Wake as many workers as are needed for `workers` of them to be awake."""
    for worker in range(min(workers, atomics.load(block + _WORKERS))):
        mine = block + _WORKER + worker * _WORKER_BYTES
        if atomics.load(mine) and atomics.compare_exchange(mine, 1, 0):
            _sem_post(mine + _LINE)
    return 0


@kernel_jit
def _share(
    block: int,
    function: int,
    arguments: int,
    tasks: int,
    x: int,
    other: int,
    out: int,
    shared: int,
    scratch: int,
    stride: int,
) -> int:
    """Publish a job, take part in it, and return when all of it has ended."""
    job = block + _JOB
    atomics.exchange(job, function)
    atomics.exchange(job + 8, arguments)
    atomics.exchange(job + 16, x)
    atomics.exchange(job + 24, other)
    atomics.exchange(job + 32, out)
    atomics.exchange(job + 40, shared)
    atomics.exchange(job + 48, scratch)
    atomics.exchange(job + 56, stride)
    atomics.exchange(job + 64, tasks)
    atomics.exchange(block + _DONE, 0)
    # Generation 0 is what a worker starts with: it is never published.
    generation = max(1, (atomics.load(block + _TICKET) >> 32) + 1 & _GENERATION)
    ticket = generation << 32 | tasks
    atomics.exchange(block + _TICKET, ticket)
    _wake(block, tasks - 1)
    _work(block, 0, ticket)
    looks = 0
    while atomics.load(block + _DONE) < tasks:
        looks += 1
        if looks < _PATIENCE:
            atomics.pause()
        else:
            _sched_yield()
    return 0


@kernel_jit
def _claim(block: int, spins: int) -> int:
    """Return whether the caller owns the team of `block` from now on; nobody owns that of block 0."""
    if block == 0 or not atomics.compare_exchange(block + _OWNER, 0, 1):
        return 0
    atomics.exchange(block + _SPINS, spins)
    atomics.exchange(block + _RESULT, 0)
    return 1


@kernel_jit
def _run_phases(
    block: int,
    owns: int,
    phases: int,
    count: int,
    x: int,
    other: int,
    out: int,
    shared: int,
    scratch: int,
    stride: int,
) -> int:
    """Run the phases of one launch; return whether a task has asked that it be repeated in another way."""
    result = 0
    for phase in range(count):
        at = phases + 32 * phase
        function, arguments, tasks = atomics.load(at), atomics.load(at + 8), atomics.load(at + 16)
        if tasks > 1 and owns:
            _share(block, function, arguments, tasks, x, other, out, shared, scratch, stride)
        else:
            for task in range(tasks):
                if atomics.call_task(function, task, arguments, x, other, out, shared, scratch) != 0:
                    result = 1
    if owns and atomics.load(block + _RESULT) != 0:
        result = 1
    return result


@kernel_entry
def dispatch(
    block: int,
    spins: int,
    phases: int,
    count: int,
    x: int,
    other: int,
    out: int,
    shared: int,
    scratch: int,
    stride: int,
) -> int:
    """Run phases one after the other, the tasks of each in parallel; return the number of the caller's CPU.

    If any task returns anything but 0, :data:`REPEAT` is added to the number.

    Parameters
    ----------
    block
        Address of the team's block; 0 runs everything on the calling thread, and so does a team that is busy.
    spins
        How often workers then look for the next job before they sleep.
    phases
        Address of `count` times four words: address of a task's function, of its arguments, number of tasks, unused.
    x, other, out, shared
        Passed on to every task.
    scratch, stride
        Task functions get ``scratch + participant * stride``.
    """
    owns = _claim(block, spins)
    result = _run_phases(block, owns, phases, count, x, other, out, shared, scratch, stride)
    if owns:
        atomics.exchange(block + _OWNER, 0)
    cpu: int = _sched_getcpu()
    return cpu + REPEAT * result


@kernel_entry
def dispatch_sequence(
    block: int,
    spins: int,
    launches: int,
    first: int,
    count: int,
    table: int,
    shared: int,
    scratch: int,
    stride: int,
) -> int:
    """Run the launches `first` to `count` - 1 of a sequence one after the other; return the number of the caller's CPU.

    If a task of launch i returns anything but 0, ``REPEAT * (i + 1)`` is added to the number, and launch i is the last
    one that was run.

    Parameters
    ----------
    block, spins, shared, scratch, stride
        As for :func:`dispatch`.
    launches
        Address of five words for each launch: address and number of its phases, and where in `table` the addresses of
        x, other and out stand. For `other`, -1 stands for none, and -2 - i for the address of entry i itself: a table
        of all that the launch reads beside x.
    table
        Address of the addresses of arrays.
    """
    owns = _claim(block, spins)
    result = 0
    for number in range(first, count):
        at = launches + 40 * number
        x, out = atomics.load(table + 8 * atomics.load(at + 16)), atomics.load(table + 8 * atomics.load(at + 32))
        entry = atomics.load(at + 24)
        other = 0
        if entry >= 0:
            other = atomics.load(table + 8 * entry)
        elif entry < -1:
            other = table + 8 * (-2 - entry)
        phases, length = atomics.load(at), atomics.load(at + 8)
        if _run_phases(block, owns, phases, length, x, other, out, shared, scratch, stride) != 0:
            result = number + 1
            break
    if owns:
        atomics.exchange(block + _OWNER, 0)
    cpu: int = _sched_getcpu()
    return cpu + REPEAT * result


@kernel_entry
def rest(block: int) -> int:
    """Send workers that wait for a job to sleep at once."""
    return atomics.exchange(block + _SPINS, 0)


@kernel_entry
def stop(block: int) -> int:
    """Tell all workers to end, and wake them for it."""
    atomics.exchange(block + _STOP, 1)
    return _wake(block, atomics.load(block + _WORKERS))
