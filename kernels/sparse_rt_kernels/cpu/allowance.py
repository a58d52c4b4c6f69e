"""How many CPUs this process may use: its affinity, and the quotas of its control groups.

A process may be kept to some CPUs (taskset, cpusets, :func:`os.sched_setaffinity`), and to a share of all of them
(``cpu.max``, in version 1 ``cpu.cfs_quota_us``; what containers get for ``--cpus``). Threads beyond that only wait for
each other.
"""

import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

__all__ = ["allowed_cpus", "cpu_share", "is_limited", "usable_threads"]

_PROC: Final = Path("/proc/self")


def allowed_cpus() -> frozenset[int]:
    """Return the numbers of the CPUs that the calling thread may run on; where no system tells, all of them."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def cpu_share(proc: Path = _PROC) -> float:
    """Return how many CPUs' worth of time this process may use, a fraction where a control group has a quota.

    Parameters
    ----------
    proc
        Folder with the files `cgroup` and `mountinfo` of the process.
    """
    return min([float(len(allowed_cpus())), *_quotas(proc)])


def usable_threads() -> int:
    """Return how many threads this process can run at once; a share of a CPU counts as one."""
    return max(1, math.ceil(cpu_share()))


def is_limited() -> bool:
    """Return whether this process may use less than the whole machine."""
    return cpu_share() < (os.cpu_count() or 1)


def _quotas(proc: Path) -> Iterator[float]:
    """Yield the quota of each control group that the process is in, in CPUs."""
    try:
        groups = [line.split(":", 2) for line in (proc / "cgroup").read_text().splitlines()]
        mounts = [line.split() for line in (proc / "mountinfo").read_text().splitlines()]
    except (OSError, UnicodeDecodeError):
        return
    for mount in mounts:
        if "-" not in mount[6:]:
            continue
        kind, _, options = mount[mount.index("-", 6) + 1 :][:3]
        root, point = mount[3], Path(mount[4].replace("\\040", " "))
        for number, controllers, path in (group for group in groups if len(group) == 3):
            if kind == "cgroup2" and number == "0":
                yield from _walked(point, root, path, _quota_of_version_2)
            elif kind == "cgroup" and "cpu" in options.split(",") and "cpu" in controllers.split(","):
                yield from _walked(point, root, path, _quota_of_version_1)


def _walked(point: Path, root: str, path: str, quota: Callable[[Path], float | None]) -> Iterator[float]:
    """Yield the quotas from the process's own group up to the one that is mounted."""
    inner = path[len(root) :] if root != "/" and path.startswith(root) else path
    # In a container the path may be one of the host's; the group is then the one that is mounted.
    own = point / inner.strip("/")
    folder = own if own.is_dir() and ".." not in own.parts else point
    for each in (folder, *folder.parents):
        found = quota(each)
        if found is not None:
            yield found
        if each == point:
            return


def _quota_of_version_2(folder: Path) -> float | None:
    return _ratio(_text(folder / "cpu.max").split())


def _quota_of_version_1(folder: Path) -> float | None:
    return _ratio([_text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")])


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _ratio(words: list[str]) -> float | None:
    """Return microseconds of quota through microseconds of period; None for "max", -1, and what is no number."""
    try:
        quota, period = (int(word) for word in words)
    except ValueError:
        return None
    return quota / period if quota > 0 and period > 0 else None
