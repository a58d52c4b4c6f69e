"""Operators that work on each plane (image and channel) alone: how their planes are shared among tasks."""

from sparse_rt_kernels.jit.compilation import kernel_jit
from sparse_rt_kernels.threads.parts import TASK_NANOSECONDS

__all__ = ["plane_range", "plane_tasks"]


def plane_tasks(planes: int, nanoseconds: float, threads: int) -> int:
    """Return into how many tasks to split `planes` planes that take `nanoseconds` each, roughly."""
    return max(1, min(threads, planes, int(planes * nanoseconds / TASK_NANOSECONDS)))


@kernel_jit
def plane_range(task: int, tasks: int, planes: int) -> tuple[int, int]:
    """Return the first plane of a task, and the first one after it."""
    return planes * task // tasks, planes * (task + 1) // tasks
