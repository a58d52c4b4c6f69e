"""One kernel of onnxruntime: an operator's node in a session."""

from typing import Final

LIBRARY: Final = 8 * 0
#: The first of the calls that are kept; each names the next one. Read while others are added.
CALLS: Final = 8 * 1
#: How many threads onnxruntime's pool has, as far as is known, and how often it is still to be looked.
THREADS: Final = 8 * 2
LOOKS: Final = 8 * 8
MOST_LOOKS: Final = 3
#: Not 0 where the kernel has no calls, and :data:`.library.RUN` runs it.
RUNS_ELSEWHERE: Final = 8 * 3
#: How many inputs a call reads, and which ones of the node.
INPUT_COUNT: Final = 8 * 4
INPUTS: Final = 8 * 5
#: onnxruntime's OrtAllocator for scratch memory.
ALLOCATOR: Final = 8 * 6
#: For whoever made it.
OWN: Final = 8 * 7
COUNT: Final = 9
