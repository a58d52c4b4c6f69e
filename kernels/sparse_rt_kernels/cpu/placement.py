"""Which CPU a thread runs on: a worker that wakes on its caller's core gains nothing.

Linux wakes a thread near the one that woke it, and moves it to an idle core only at its next balancing, milliseconds
later: more than most layers take. (Measured on 2 virtual CPUs: layers of 1.5 ms ran both threads on one core in most
calls, and in 0.8 ms once the worker was kept off it.) Engines whose workers spin do not meet this.
"""

import ctypes
import os
import sys
from collections.abc import Callable, Sequence

from sparse_rt_kernels.cpu.allowance import allowed_cpus

__all__ = ["current_cpu", "keep_off"]


def _nowhere() -> int:
    return -1


def _find_current_cpu() -> Callable[[], int]:
    """Return the C library's sched_getcpu, or a function that returns -1 where there is none."""
    if not sys.platform.startswith("linux"):
        return _nowhere
    # PyDLL keeps the GIL: the call takes 20 ns, giving the GIL away may take 5 ms.
    found: Callable[[], int] | None = getattr(ctypes.PyDLL(None), "sched_getcpu", None)
    return found or _nowhere


#: Return the number of the CPU that the calling thread runs on, -1 where that cannot be known.
current_cpu: Callable[[], int] = _find_current_cpu()


def keep_off(cpu: int, thread_ids: Sequence[int]) -> bool:
    """Let threads run anywhere that the caller may run but on `cpu`, each on its own part of what is left.

    A caller that may run on `cpu` alone shares it with them: they must not leave what it may use.

    Parameters
    ----------
    cpu
        Number of a CPU; -1 does nothing.
    thread_ids
        Native ids of threads of this process.

    Returns
    -------
    bool
        Whether the system did so. It is a wish: without it threads are correct, only later.
    """
    if cpu < 0 or not sys.platform.startswith("linux"):
        return False
    allowed = allowed_cpus()
    others = sorted(allowed - {cpu}) or sorted(allowed)
    count = min(len(others), len(thread_ids))
    try:
        for number, thread in enumerate(thread_ids):
            os.sched_setaffinity(thread, others[number % count :: count])
    except OSError:
        # A sandbox may forbid it.
        return False
    return True
