"""The segments that nodes of a running model name by number: a model holds numbers, a process the segments."""

import itertools
import threading
from typing import Final, NamedTuple

from sparse_rt.plan.bind.segment import Segment

__all__ = ["ATTRIBUTE", "DOMAIN", "OUTPUT_TYPES", "Registered", "find", "operator_of", "register", "unregister"]

#: The domain of the operators that are segments, and the attribute that holds a segment's number.
DOMAIN: Final = "sparse_rt.plan"
ATTRIBUTE: Final = "segment"
_PREFIX: Final = "Segment_"
#: The dtypes that the outputs of a segment can have, and what ONNX calls them.
OUTPUT_TYPES: Final = {"float32": "float", "uint8": "uint8", "int8": "int8", "int32": "int32"}


class Registered(NamedTuple):
    """A segment, and how many threads onnxruntime runs it on."""

    segment: Segment
    threads: int


_numbers = itertools.count(1)
_registered: dict[int, Registered] = {}
_lock = threading.Lock()


def operator_of(dtype: str) -> str:
    """Return the operator for segments whose outputs have a dtype of :data:`OUTPUT_TYPES`: ``Segment_float``."""
    return _PREFIX + OUTPUT_TYPES[dtype]


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
