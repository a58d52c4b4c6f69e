"""Lanes as they are, in other places or under another name: plain IR for every CPU."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir

from sparse_rt_kernels.jit.llvm import I32
from sparse_rt_kernels.vectors.simd.operation import operation
from sparse_rt_kernels.vectors.simd.values import constant, vector

__all__ = ["bitcast", "broadcast", "shuffle", "transpose"]


@operation(lambda scalar, lanes: np.full(lanes, scalar))
def broadcast(builder: Any, scalar: Any, lanes: int) -> Any:
    """Return `scalar` in every lane; of a loaded scalar this is one load-and-broadcast instruction."""
    kind = vector(scalar.type, lanes)
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), scalar, I32(0))
    return builder.shuffle_vector(first, ir.Constant(kind, ir.Undefined), constant(I32, [0] * lanes))


@operation(lambda a, dtype: a.view(dtype))
def bitcast(builder: Any, a: Any, kind: Any) -> Any:
    """Return the same bytes as another type."""
    return builder.bitcast(a, kind)


@operation(lambda a, b, lanes: np.concatenate([a, b])[list(lanes)])
def shuffle(builder: Any, a: Any, b: Any, lanes: Sequence[int]) -> Any:
    """Return lane ``lanes[i]`` of a followed by b, for every i; a and b have one type."""
    return builder.shuffle_vector(a, b, constant(I32, list(lanes)))


@operation(lambda rows: list(np.ascontiguousarray(np.stack(rows).T)))
def transpose(builder: Any, rows: Sequence[Any]) -> list[Any]:
    """Transpose a square of vectors: lane j of row i becomes lane i of row j.

    A power of two of rows, as many as lanes. log2(rows) times the first half of the rows is interleaved with the
    second, lane by lane: a perfect shuffle, after which each lane number has become a row number. Of 16-byte vectors
    these are the unpack instructions.
    """
    size = len(rows)
    low = [lane for first in range(size // 2) for lane in (first, size + first)]
    high = [lane + size // 2 for lane in low]
    current = list(rows)
    for _ in range(size.bit_length() - 1):
        pairs = list(zip(current[: size // 2], current[size // 2 :], strict=True))
        current = [shuffle(builder, a, b, half) for a, b in pairs for half in (low, high)]
    return current
