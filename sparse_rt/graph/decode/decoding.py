"""How the weights of one format are decoded in standard operators."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from sparse_rt.graph.decode.body import Body

__all__ = ["Decoding", "Write"]

#: Adds to a body what makes the matrix (n, k) of a format's tensors, and of its size where the format needs it.
Write = Callable[[Body, Sequence[ir.Value]], ir.Value]


@dataclass(frozen=True)
class Decoding:
    """The decoding function of a format: tensors -> matrix (n, k).

    k runs over (kernel..., channel), each kernel position's channels padded as the format says.

    Attributes
    ----------
    write
        Writes the body, for the opset of the body it gets. Element types: all that the format stores but float16,
        which is cast to float32 before.
    doc
        Of the function.
    decoded_nbytes
        The bytes of the largest array on the way, of a dense shape and dtype (float16 counts as float32).
    needs_size
        Whether `write` gets one value more than the format has tensors: n and k, int64 (2,).
    earlier
        Bodies that sparse_rt once wrote under this name for other opsets than today, and that mean the same.
    """

    write: Write
    doc: str
    decoded_nbytes: Callable[[Sequence[int], np.dtype[Any]], int]
    needs_size: bool = False
    earlier: tuple[Write, ...] = ()
