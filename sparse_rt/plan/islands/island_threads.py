"""How many threads each island of a plan gets: onnxruntime's sessions cannot share a pool, so that few have one.

(Its pool of the process, ``set_global_thread_pool_sizes``, can be made once, in one size, spins, and from then on every
session of the process that does not name it is refused: it is the program's, not ours.)
"""

import math
from collections.abc import Sequence
from typing import Final

import onnx_ir as ir

__all__ = ["island_threads"]

#: Threads that the islands of a plan may have beside the caller: these many, or two pools.
_WORKERS: Final = 8
_POOLS: Final = 2
#: What is assumed of a size that is not known, and of a value of which nothing is.
_UNKNOWN_SIZE: Final = 32
_UNKNOWN_VALUE: Final = 4096
#: Operators that do nothing which could be shared.
_FREE: Final = frozenset(
    {"Constant", "ConstantOfShape", "Flatten", "Identity", "Reshape", "Shape", "Size", "Squeeze", "Unsqueeze"}
)


def island_threads(islands: Sequence[Sequence[ir.Node]], threads: int) -> list[int]:
    """Return for each island, given by its nodes, how many threads it shall run on, `threads` or 1.

    Those with the most work get threads: as many as together have eight workers, two at least. The others run on the
    caller's thread, as all do whose nodes have nothing to share.
    """
    if threads == 1:
        return [1] * len(islands)
    most = max(_POOLS, _WORKERS // (threads - 1))
    work = [sum(map(_work, nodes)) for nodes in islands]
    ranked = sorted((number for number, amount in enumerate(work) if amount), key=lambda number: -work[number])
    chosen = set(ranked[:most])
    return [threads if number in chosen else 1 for number in range(len(islands))]


def _work(node: ir.Node) -> int:
    """Return a guess of what a node has to do, in elements; 0 for what cannot be shared."""
    if node.op_type in _FREE and node.domain in ("", "ai.onnx"):
        return 0
    values = [value for value in (*node.inputs, *node.outputs) if value is not None]
    largest = max((_elements(value) for value in values if value.const_value is None), default=0)
    # A product goes through its weight for each row, which is about as much as it does per element of its input.
    weights = max((_elements(value) for value in values if value.const_value is not None), default=1)
    is_product = any(word in node.op_type for word in ("Conv", "MatMul", "Gemm", "LSTM", "GRU", "RNN", "Attention"))
    return largest * (math.isqrt(weights) if is_product else 1)


def _elements(value: ir.Value) -> int:
    if value.shape is None:
        return _UNKNOWN_VALUE
    return math.prod(size if isinstance(size, int) else _UNKNOWN_SIZE for size in value.shape)
