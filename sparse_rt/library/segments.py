"""The segments that nodes of a running model name by number: a model holds numbers, a process the segments."""

import itertools
import threading
from typing import NamedTuple

from sparse_rt.plan.bind.segment import Segment

__all__ = ["Registered", "find", "register", "unregister"]


class Registered(NamedTuple):
    """A segment, and how many threads onnxruntime runs it on."""

    segment: Segment
    threads: int


_numbers = itertools.count(1)
_registered: dict[int, Registered] = {}
_lock = threading.Lock()


def register(segment: Segment, threads: int) -> int:
    """Return the number under which nodes name a segment from now on.

    Parameters
    ----------
    segment
        Its inputs and outputs are those of its node, in order; all outputs have one dtype.
    threads
        Of onnxruntime's pool.
    """
    with _lock:
        number = next(_numbers)
        _registered[number] = Registered(segment, threads)
    return number


def unregister(number: int) -> None:
    """Forget a segment; kernels that were made of it go on."""
    with _lock:
        _registered.pop(number, None)


def find(number: int) -> Registered | None:
    """Return the segment of a number; None if there is none in this process."""
    return _registered.get(number)
