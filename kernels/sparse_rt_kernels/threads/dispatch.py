"""How a caller has launches run: it publishes jobs to workers, and takes part in them."""

from typing import Any, Final, NamedTuple

from sparse_rt_kernels.jit.compilation import kernel_jit
from sparse_rt_kernels.jit.compiler import external
from sparse_rt_kernels.jit.entry import kernel_entry
from sparse_rt_kernels.threads import atomics
from sparse_rt_kernels.threads.block import DONE, GENERATION, JOB, OWNER, RESULT, SPINS, TICKET
from sparse_rt_kernels.threads.workers import wake, work

__all__ = ["REPEAT", "dispatch", "dispatch_sequence"]

#: Added to what :func:`dispatch` returns when a task asks that the launch be repeated in another way.
REPEAT: Final = 1 << 32
#: Looks at `done` before a caller lets other threads have its core: its worker may wait for it.
_PATIENCE: Final = 20_000

_sched_yield: Any = external("sched_yield", "intc")
_sched_getcpu: Any = external("sched_getcpu", "intc")


class _Given(NamedTuple):
    """What the tasks of a launch get, beside numbers and arguments: addresses.

    Scratch memory of a thread is `stride` bytes after that of the one before; the caller's is the first.
    """

    x: int
    other: int
    out: int
    shared: int
    scratch: int
    stride: int


@kernel_jit
def _share(block: int, function: int, arguments: int, tasks: int, given: _Given) -> int:
    """Publish a job, take part in it, and return when all of it has ended."""
    job = block + JOB
    atomics.exchange(job, function)
    atomics.exchange(job + 8, arguments)
    atomics.exchange(job + 16, given.x)
    atomics.exchange(job + 24, given.other)
    atomics.exchange(job + 32, given.out)
    atomics.exchange(job + 40, given.shared)
    atomics.exchange(job + 48, given.scratch)
    atomics.exchange(job + 56, given.stride)
    atomics.exchange(job + 64, tasks)
    atomics.exchange(block + DONE, 0)
    # Generation 0 is what a worker starts with: it is never published.
    generation = max(1, (atomics.load(block + TICKET) >> 32) + 1 & GENERATION)
    ticket = generation << 32 | tasks
    atomics.exchange(block + TICKET, ticket)
    wake(block, tasks - 1)
    work(block, 0, ticket)
    looks = 0
    while atomics.load(block + DONE) < tasks:
        looks += 1
        if looks < _PATIENCE:
            atomics.pause()
        else:
            _sched_yield()
    return 0


@kernel_jit
def _claim(block: int, spins: int) -> int:
    """Return whether the caller owns the workers of `block` from now on; nobody owns those of block 0."""
    if block == 0 or not atomics.compare_exchange(block + OWNER, 0, 1):
        return 0
    atomics.exchange(block + SPINS, spins)
    atomics.exchange(block + RESULT, 0)
    return 1


@kernel_jit
def _run_phases(block: int, owns: int, phases: int, count: int, given: _Given) -> int:
    """Run the phases of one launch; return whether a task has asked that it be repeated in another way."""
    result = 0
    for phase in range(count):
        at = phases + 32 * phase
        function, arguments, tasks = atomics.load(at), atomics.load(at + 8), atomics.load(at + 16)
        if tasks > 1 and owns:
            _share(block, function, arguments, tasks, given)
        else:
            x, other, out, shared, scratch, _ = given
            for task in range(tasks):
                if atomics.call_task(function, task, arguments, x, other, out, shared, scratch) != 0:
                    result = 1
    if owns and atomics.load(block + RESULT) != 0:
        result = 1
    return result


@kernel_entry
def dispatch(block: int, spins: int, launch: int, x: int, other: int, out: int, memory: int) -> int:
    """Run the phases of a launch one after the other, the tasks of each in parallel.

    Returns the number of the caller's CPU; if any task returns anything but 0, :data:`REPEAT` is added to it.

    Parameters
    ----------
    block
        Address of the workers' block; 0 runs everything on the calling thread, and so do workers that are busy.
    spins
        How often workers then look for the next job before they sleep.
    launch
        Address of four words: address and number of phases, bytes of shared scratch memory, bytes of each thread's.
        A phase is four words: address of a task's function, of its arguments, number of tasks, unused.
    x, other, out
        Passed on to every task.
    memory
        Address of scratch memory: what is shared, then each thread's.
    """
    phases, count = atomics.load(launch), atomics.load(launch + 8)
    given = _Given(x, other, out, memory, memory + atomics.load(launch + 16), atomics.load(launch + 24))
    owns = _claim(block, spins)
    result = _run_phases(block, owns, phases, count, given)
    if owns:
        atomics.exchange(block + OWNER, 0)
    cpu: int = _sched_getcpu()
    return cpu + REPEAT * result


@kernel_entry
def dispatch_sequence(block: int, spins: int, sequence: int, first: int, table: int, memory: int) -> int:
    """Run the launches of a sequence from number `first` on, one after the other.

    Returns the number of the caller's CPU; if a task of launch i returns anything but 0, ``REPEAT * (i + 1)`` is added
    to it, and launch i is the last one that was run.

    Parameters
    ----------
    block, spins, memory
        As for :func:`dispatch`.
    sequence
        Address of four words: address and number of launches, and the most bytes of scratch memory of any.
        A launch is five words: address and number of its phases, and where in `table` the addresses of x, other and
        out stand. For `other`, -1 stands for none, and -2 - i for the address of entry i itself: a table of all that
        the launch reads beside x.
    table
        Address of the addresses of arrays.
    """
    launches, count = atomics.load(sequence), atomics.load(sequence + 8)
    scratch, stride = memory + atomics.load(sequence + 16), atomics.load(sequence + 24)
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
        if _run_phases(block, owns, phases, length, _Given(x, other, out, memory, scratch, stride)) != 0:
            result = number + 1
            break
    if owns:
        atomics.exchange(block + OWNER, 0)
    cpu: int = _sched_getcpu()
    return cpu + REPEAT * result
