"""What a forked child has to know: what other threads of its parent were in the middle of.

A child has one thread, the one that forked. Whatever another one had begun stays as it was at the fork: a lock that it
held is held for ever. So a fork waits a while until no other thread is inside what would leave the child without
something that it needs, and tells the child what was under way all the same. Nothing is noted while threads run: their
frames say where they are.
"""

import importlib.util
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType
from typing import Final

__all__ = ["Activity", "ForkedError", "in_package", "refuse_after", "watch"]

#: Seconds between two looks at what other threads do.
_LOOK: Final = 0.001


class ForkedError(RuntimeError):
    """A forked child cannot do this, since another thread of its parent was in the middle of it at the fork."""


class Activity:
    """Something that a child may not be able to do if another thread was in the middle of it at the fork.

    Parameters
    ----------
    name
        For messages, as "compiled a kernel".
    is_part
        Whether a thread that runs this code is in the middle of it.
    patience
        Seconds for which a fork waits for its end.
    """

    def __init__(self, name: str, is_part: Callable[[CodeType], bool], patience: float = 0.0) -> None:
        self.name = name
        self.is_part = is_part
        self.patience = patience
        self.was_under_way = False
        """Whether this process is a child for which it was in the middle at the fork, or a child of such a one."""
        self._is_under_way = False


_activities: list[Activity] = []


def watch(activity: Activity) -> Activity:
    """Look for an activity at every fork from now on."""
    _activities.append(activity)
    return activity


def refuse_after(activity: Activity, where: str) -> None:
    """Raise :class:`ForkedError` in a child that cannot do what `activity` is, instead of waiting for ever."""
    if activity.was_under_way:
        raise ForkedError(
            f"{where}: expected a process in which no other thread {activity.name} when it was forked, got one in "
            f"which one did. Fork earlier, or start a fresh process (multiprocessing's 'spawn' or 'forkserver')."
        )


def in_package(name: str) -> Callable[[CodeType], bool]:
    """Return what tells the code of a package, by its folder."""
    spec = importlib.util.find_spec(name)
    folder = str(Path(spec.origin).parent) + os.sep if spec is not None and spec.origin else os.devnull
    return lambda code: code.co_filename.startswith(folder)


def _other_code() -> Iterator[CodeType]:
    """Yield what other threads are inside of."""
    mine = threading.get_ident()
    for thread, frame in list(sys._current_frames().items()):
        here = frame if thread != mine else None
        while here is not None:
            yield here.f_code
            here = here.f_back


def _before() -> None:
    begin = time.monotonic()
    while True:
        found = list(dict.fromkeys(_other_code()))
        waited = time.monotonic() - begin
        for activity in _activities:
            activity._is_under_way = any(map(activity.is_part, found))
        if not any(activity._is_under_way and waited < activity.patience for activity in _activities):
            return
        time.sleep(_LOOK)


def _in_child() -> None:
    for activity in _activities:
        activity.was_under_way |= activity._is_under_way


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_child=_in_child)
