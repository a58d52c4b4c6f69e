"""The decoding of the target's 2:4 format: values and packed 2-bit indexes.

Every body is written for the opset of the model that it goes into, because engines expect both to agree.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from sparse_rt.formats.n2m4 import k4_of
from sparse_rt.graph.decode.body import Body
from sparse_rt.graph.decode.decoding import Decoding

__all__ = ["DECODING"]

_SCATTER_ADD_OPSET = 16  # ScatterElements with reduction

# The elements of its group that the two fields of a nibble name: i0, and i1 + 1.
_POSITIONS = np.stack([np.arange(16) & 3, (np.arange(16) >> 2) + 1], axis=1)

_Spread = Callable[[Body, ir.Value, ir.Value, ir.Value], ir.Value]


def _write(body: Body, tensors: Sequence[ir.Value]) -> ir.Value:
    """Decode by the operators that the opset has."""
    return _decode(body, tensors, _scatter if body.opset >= _SCATTER_ADD_OPSET else _scatter_nonzeros)


def _write_for_old_opsets(body: Body, tensors: Sequence[ir.Value]) -> ir.Value:
    """Decode as for older opsets: a tool that raises a model's opset may leave the body as it is."""
    return _decode(body, tensors, _scatter_nonzeros)


def _decode(body: Body, tensors: Sequence[ir.Value], spread: _Spread) -> ir.Value:
    """Write the decoding of stored values and packed indexes, for every element type.

    An index byte describes two groups of four channels, the low nibble the first: i0 in its low 2 bits, i1 above.
    Each group has two values.
    """
    values, index = tensors
    zero, one, two = body.constant([0]), body.constant([1]), body.constant([2])
    four = body.constant(4, np.uint8)
    # Shifting left drops the high nibble, since the element type is 8 bits wide.
    low = body("BitShift", body("BitShift", index, four, direction="LEFT"), four, direction="RIGHT")
    high = body("BitShift", index, four, direction="RIGHT")
    column = body.constant([0, 0, 1])
    pairs = body("Concat", body("Reshape", low, column), body("Reshape", high, column), axis=2)
    # A row of an odd number of groups ends in half a byte: the last nibble is none.
    groups = body("Div", body("Slice", body("Shape", values), one, two), two)
    nibbles = body("Slice", body("Reshape", pairs, body.constant([0, -1])), zero, groups, one)
    quads = spread(
        body,
        body("Reshape", values, body.constant([-1, 2])),
        body("Reshape", nibbles, body.constant([-1])),
        _zero(body, values),
    )
    return body(
        "Reshape", quads, body("Concat", body("Slice", body("Shape", values), zero, one), body.constant([-1]), axis=0)
    )


def _zero(body: Body, values: ir.Value) -> ir.Value:
    """Return a 0 of the values' own type, shape (1,): the pad behind the first value."""
    corner = body("Slice", values, body.constant([0, 0]), body.constant([1, 1]))
    padded = body("Pad", corner, body.constant([0, 0, 0, 1]))
    last = body("Slice", padded, body.constant([1]), body.constant([2]), body.constant([1]))
    return body("Reshape", last, body.constant([1]))


def _scatter(body: Body, pairs: ir.Value, nibbles: ir.Value, nought: ir.Value) -> ir.Value:
    """Add each of the values (g, 2) to the element of its group (g, 4) that the nibbles (g,) name.

    Few large operators: an engine keeps what it folds until it has folded everything, so every intermediate array
    counts in the peak of memory while a model loads.
    """
    positions = body("Gather", body.constant(_POSITIONS), body("Cast", nibbles, to=ir.DataType.INT32.value))
    shape = body("Concat", body("Shape", nibbles), body.constant([4]), axis=0)
    return body("ScatterElements", body("Expand", nought, shape), positions, pairs, axis=1, reduction="add")


def _scatter_nonzeros(body: Body, pairs: ir.Value, nibbles: ir.Value, nought: ir.Value) -> ir.Value:
    """Return the same as :func:`_scatter` by operators of older opsets, whose ScatterElements assigns.

    Two indexes may name the same element, one of them with value 0: zeros are written to a fifth element instead,
    which is cut off.
    """
    positions = body("Gather", body.constant(_POSITIONS), body("Cast", nibbles, to=ir.DataType.INT32.value))
    kept = body("Where", body("Cast", pairs, to=ir.DataType.BOOL.value), positions, body.constant(4))
    shape = body("Concat", body("Shape", nibbles), body.constant([5]), axis=0)
    fives = body("ScatterElements", body("Expand", nought, shape), kept, pairs, axis=1)
    return body("Slice", fives, body.constant([0]), body.constant([4]), body.constant([1]))


def _decoded_nbytes(shape: Sequence[int], dtype: np.dtype[Any]) -> int:
    """Return the bytes of the decoded matrix, whose rows are padded to whole index bytes."""
    k4 = k4_of(shape)
    return shape[0] * (-(-k4 // 8) * 8) * (4 if dtype == np.float16 else dtype.itemsize)


DECODING = Decoding(
    write=_write,
    doc="values (n, k4/2), packed 2-bit indexes (n, ceil(k4/8)) -> matrix (n, k4) with at most 2 nonzeros of each 4",
    decoded_nbytes=_decoded_nbytes,
    earlier=(_write_for_old_opsets,),
)
