"""What a caller and the workers share: one block of words.

    ticket    generation << 32 | tasks of that generation that nobody has claimed yet
    job       what a task is called with; written before the ticket that announces it
    done      tasks of the job that have ended
    result    1 when a task of the launch has returned anything but 0
    owner     1 while a caller uses the workers
    stop      1 when workers must end
    spins     how often a worker looks for a ticket before it sleeps; 0 sends it to sleep at once
    worker    for each: whether it sleeps, and a semaphore

Words that are written while others are read lie in cache lines of their own.
"""

from typing import Final

from sparse_rt_kernels.cpu.caches import LINE

__all__ = [
    "COUNT",
    "DONE",
    "GENERATION",
    "JOB",
    "OWNER",
    "RESULT",
    "SEMAPHORE",
    "SPINS",
    "STOP",
    "TICKET",
    "WORKER",
    "WORKERS",
    "WORKER_BYTES",
    "block_bytes",
]

TICKET: Final = 0 * LINE
DONE: Final = 1 * LINE
RESULT: Final = 1 * LINE + 8
OWNER: Final = 2 * LINE
STOP: Final = 3 * LINE
SPINS: Final = 3 * LINE + 8
WORKERS: Final = 3 * LINE + 16
JOB: Final = 4 * LINE
WORKER: Final = 6 * LINE
#: Bytes of one worker: a line for its word of sleep, one for its semaphore (sem_t is 32 bytes in glibc and in musl).
WORKER_BYTES: Final = 2 * LINE
SEMAPHORE: Final = LINE
#: Of a ticket: its tasks; and of what stands above them: a number that stays positive.
COUNT: Final = 0xFFFFFFFF
GENERATION: Final = 0x7FFFFFFF


def block_bytes(workers: int) -> int:
    """Return the size of the block of so many workers."""
    return WORKER + workers * WORKER_BYTES
