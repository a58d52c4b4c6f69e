"""How launches run where there are no workers: on threads that last for one phase, or as the Python that they are."""

import functools

from sparse_rt_kernels.cpu.settings import settings
from sparse_rt_kernels.jit.entry import kernel_entry
from sparse_rt_kernels.threads import atomics
from sparse_rt_kernels.threads.launch import Launch, Phase
from sparse_rt_kernels.threads.workspace import address_of, as_pointer, scratch_address

__all__ = ["run_phases"]


@kernel_entry
def _call(function: int, task: int, arguments: int, x: int, other: int, out: int, shared: int, scratch: int) -> int:
    return atomics.call_task(function, task, arguments, x, other, out, shared, scratch)


def _run_task(launch: Launch, phase: Phase, given: tuple[int, int, int, int], task: int) -> int:
    """Run one task; `given` is what it gets as x, other, out and shared."""
    own, arguments = scratch_address("task", launch.stride), address_of(phase.arguments)
    if settings().is_disabled:
        return phase.function(task, as_pointer(arguments), *given, own)
    return _call(phase.address, task, arguments, *given, own)


def run_phases(launch: Launch, threads: int, given: tuple[int, int, int, int]) -> bool:
    """Run the phases of a launch; return whether a task has asked that it be repeated in another way.

    Parameters
    ----------
    launch
        Its tasks run as Python, one after the other, under ``NUMBA_DISABLE_JIT``.
    threads
        How many run at a time.
    given
        Addresses that every task gets: of x, other, out, and of scratch memory that they share.
    """
    answers: list[int] = []
    for phase in launch.phases:
        run = functools.partial(_run_task, launch, phase, given)
        if threads == 1 or phase.tasks == 1 or settings().is_disabled:
            answers.extend(map(run, range(phase.tasks)))
            continue
        # Most processes have workers, and need none of this.
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(threads, "sparse_rt") as executor:
            answers.extend(executor.map(run, range(phase.tasks)))
    return any(answers)
