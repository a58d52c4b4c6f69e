"""How an operator's elements are cut into tasks."""

from typing import Final

from sparse_rt_kernels.jit.compilation import kernel_jit

__all__ = ["TASK_NANOSECONDS", "part_bounds", "worthwhile_parts"]

#: Handing a task to a worker that is awake and waiting for it takes 1 us: less than this is not worth one.
TASK_NANOSECONDS: Final = 2000


def worthwhile_parts(nanoseconds: float, threads: int) -> int:
    """Return the number of tasks for work of so many nanoseconds on one thread.

    Twice as many as threads where they stay large: one core may be slower, or busy elsewhere.
    """
    if threads == 1:
        return 1
    return max(1, min(int(nanoseconds / TASK_NANOSECONDS), 2 * threads if nanoseconds > 1e5 * threads else threads))


@kernel_jit
def part_bounds(count: int, unit: int, part: int, parts: int) -> tuple[int, int]:
    """Return the `part`-th of `parts` nearly equal ranges of [0, count), cut at multiples of `unit`."""
    units = (count + unit - 1) // unit
    return units * part // parts * unit, min(count, units * (part + 1) // parts * unit)
