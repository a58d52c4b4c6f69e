"""What onnxruntime needs to run segments: a library of operators, and numbers by which these find them."""

from collections.abc import Mapping
from typing import Final, Protocol

from sparse_rt.plan.bind.segment import Segment

__all__ = ["ATTRIBUTE", "DOMAIN", "MOST_VALUES", "OPERATORS", "Host"]

#: Of the operators, in its version 1, and their attribute: the number of a segment.
DOMAIN: Final = "sparse_rt.plan"
ATTRIBUTE: Final = "segment"
#: The operator that runs a segment, by the dtype of all that it writes.
OPERATORS: Final[Mapping[str, str]] = {
    "float32": "Segment_float",
    "uint8": "Segment_uint8",
    "int8": "Segment_int8",
    "int32": "Segment_int32",
}
#: How many values an operator may read, and how many it may write.
MOST_VALUES: Final = 32


class Host(Protocol):
    """Makes segments operators of onnxruntime's, in this process."""

    def get_library_path(self) -> str:
        """Return the path of the library that has the operators; raises what stands in its way."""
        ...

    def register(self, segment: Segment, threads: int) -> int:
        """Return the number by which an operator finds a segment, which will run on that many threads."""
        ...

    def unregister(self, number: int) -> None:
        """Forget a segment."""
        ...

    def error_of(self, text: str) -> BaseException | None:
        """Return the error of a segment that onnxruntime's error of that text speaks of; None if it is another's."""
        ...
