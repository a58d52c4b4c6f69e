"""Tell files of a process that is still at work from those that a killed one left: the living hold a lock."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has no such locks: there nothing counts as abandoned
    fcntl = None  # type: ignore[assignment]

__all__ = ["abandoned", "hold"]


def hold(descriptor: int) -> None:
    """Lock an open file until it is closed, or its process ends in whatever way.

    On file systems without locks nothing happens; :func:`abandoned` then never says so.
    """
    if fcntl is None:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError:
        return


@contextmanager
def abandoned(path: str | os.PathLike[str]) -> Iterator[bool]:
    """Say whether `path` is a regular file of this user that nobody holds; within the block nobody else can."""
    descriptor = _open(path)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _open(path: str | os.PathLike[str]) -> int | None:
    """Return the open and locked file; None where it is held, not there, not ours, or cannot be locked."""
    if fcntl is None:
        return None
    try:
        descriptor = os.open(Path(path), os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if os.fstat(descriptor).st_uid == os.geteuid():
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
    except OSError:
        pass
    os.close(descriptor)
    return None
