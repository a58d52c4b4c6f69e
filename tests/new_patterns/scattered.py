"""Any zeros at all: the nonzeros row by row, each with its column, as CSR has it.

Rows have no length of their own, and how many bytes a weight takes depends on its values.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from sparse_rt.errors import FormatError, PatternError, message
from sparse_rt.formats.shape import checked_shape
from sparse_rt.formats.values import DTYPES, int8_values, require_weight, scaled_values
from sparse_rt.graph.decode import Decoding
from sparse_rt.sparsity import Family
from tests.new_patterns.numpy_kernels import kernels


@dataclass(frozen=True)
class Scattered:
    """The pattern: every weight holds it."""

    name = "scattered"
    density = None

    def first_violation(self, weight):
        return None

    def mask(self, scores, density=None):
        if density is None:
            raise PatternError(message(f"pattern '{self.name}'", "a density", "none"))
        ranks = np.argsort(np.argsort(-scores.astype(np.float64), axis=None, kind="stable"), kind="stable")
        return (ranks < round(density * scores.size)).reshape(scores.shape)

    def pieces(self, weight):
        yield slice(None), slice(None)


SCATTERED = Scattered()
FAMILY = Family(
    "scattered nonzeros",
    "'scattered'",
    "scattered",
    lambda text: SCATTERED if text.strip() == "scattered" else None,
    lambda weight: (SCATTERED,),
)


class ScatteredArrays(NamedTuple):
    """Values (nonzeros,), their columns (nonzeros,) int16, the first of each row (n + 1,) int32, and k."""

    values: NDArray[Any]
    columns: NDArray[np.int16]
    starts: NDArray[np.int32]
    k: int


@dataclass(frozen=True, eq=False)
class ScatteredWeight:
    """A weight of scattered nonzeros; k runs over (kernel..., channel)."""

    values: NDArray[Any]
    columns: NDArray[np.int16]
    starts: NDArray[np.int32]
    shape: tuple[int, ...]

    format = property(lambda self: FORMAT)
    pattern = property(lambda self: SCATTERED)
    dtype = property(lambda self: self.values.dtype)
    tensors = property(lambda self: (self.values, self.columns, self.starts))
    arrays = property(lambda self: ScatteredArrays(*self.tensors, int(np.prod(self.shape[1:]))))
    nbytes = property(lambda self: sum(array.nbytes for array in self.tensors))
    nonzeros = property(lambda self: int(np.count_nonzero(self.values)))

    def check(self, where):
        n, *others = checked_shape(self.shape, where)
        fits = self.starts.shape == (n + 1,) and self.starts[0] == 0 and (np.diff(self.starts) >= 0).all()
        if not fits or not len(self.values) == len(self.columns) == self.starts[-1]:
            raise FormatError(message(where, f"{n + 1} ascending starts", str(self.starts)))
        if ((self.columns < 0) | (self.columns >= int(np.prod(others)))).any():
            raise FormatError(message(where, f"columns below {int(np.prod(others))}", str(self.columns.max())))

    def decode(self, where="compressed weight"):
        self.check(where)
        n, channels, *kernel = self.shape
        return np.ascontiguousarray(np.moveaxis(decoded(self.arrays).reshape(n, *kernel, channels), -1, 1))

    def rotate180(self):
        dense = np.flip(self.decode(), tuple(range(2, len(self.shape))))
        return FORMAT.encode(dense)

    def scaled(self, factors):
        values = scaled_values(self.values, factors[_rows(self.starts)])
        return None if values is None else ScatteredWeight(values, self.columns, self.starts, self.shape)

    def as_int8(self):
        values = int8_values(self.values)
        return None if values is None else ScatteredWeight(values, self.columns, self.starts, self.shape)

    def row_sums(self):
        return np.bincount(_rows(self.starts), self.values, self.shape[0]).astype(np.int64)

    def absolute_row_sums(self):
        return np.bincount(_rows(self.starts), np.abs(self.values, dtype=np.int16), self.shape[0]).astype(np.int64)


def _rows(starts):
    """The row of each nonzero."""
    return np.repeat(np.arange(len(starts) - 1), np.diff(starts))


def decoded(arrays):
    """The matrix (n, k) of a weight's arrays."""
    matrix = np.zeros((len(arrays.starts) - 1, arrays.k), arrays.values.dtype)
    matrix[_rows(arrays.starts), arrays.columns] = arrays.values
    return matrix


class ScatteredFormat:
    """The format."""

    name = "scattered"
    alg = "weight_scattered"
    suffix = "_scattered"
    tensors = ("filter_values", "value_columns", "row_starts")
    dtypes = DTYPES
    channel_multiple = 1
    least_channels = 1
    title = SCATTERED.name

    def stores(self, pattern):
        return pattern == SCATTERED

    def find(self, weight):
        return SCATTERED

    def nbytes(self, shape, dtype):
        return None

    def encode(self, weight, where="weight"):
        require_weight(weight, where)
        return self.encode_if_it_holds(weight)

    def encode_if_it_holds(self, weight):
        matrix = np.moveaxis(weight, 1, -1).reshape(len(weight), -1)
        rows, columns = np.nonzero(matrix)
        starts = np.searchsorted(rows, np.arange(len(weight) + 1)).astype(np.int32)
        return ScatteredWeight(matrix[rows, columns], columns.astype(np.int16), starts, weight.shape)

    def weight(self, tensors, shape):
        return ScatteredWeight(*tensors, tuple(shape))


FORMAT = ScatteredFormat()


def _write(body, inputs):
    """The row of a nonzero is how many rows end at it, or before."""
    values, columns, starts, size = inputs
    count = body("Shape", values)
    numbers = body("Range", body.constant(0), body("Squeeze", count), body.constant(1))
    ends = body("Slice", starts, body.constant([1]), body.constant([2**31 - 1]), body.constant([0]))
    ended = body(
        "LessOrEqual",
        body("Unsqueeze", body("Cast", ends, to=ir.DataType.INT64.value), body.constant([0])),
        body("Unsqueeze", numbers, body.constant([1])),
    )
    rows = body("ReduceSum", body("Cast", ended, to=ir.DataType.INT64.value), body.constant([1]), keepdims=1)
    wide = body("Unsqueeze", body("Cast", columns, to=ir.DataType.INT64.value), body.constant([1]))
    zeros = body("CastLike", body("ConstantOfShape", size), values)
    return body("ScatterND", zeros, body("Concat", rows, wide, axis=1), values)


DECODING = Decoding(
    write=_write,
    doc="nonzeros, their columns and the first of each row -> matrix (n, k)",
    decoded_nbytes=lambda shape, dtype: int(np.prod(shape)) * max(4, dtype.itemsize),
    needs_size=True,
)

KERNELS = kernels(FORMAT.name, decoded)
