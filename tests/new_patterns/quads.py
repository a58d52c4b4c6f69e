"""Blocks of 4 output channels by 1 input channel: a block is zero, or has no zero.

Values are stored block by block, (blocks, 4), with the place of each: a row of values is no output channel's.
"""

import re
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from sparse_rt.errors import FormatError, PatternError, message
from sparse_rt.formats.shape import checked_shape
from sparse_rt.formats.values import DTYPES, int8_values, require_weight, scaled_values
from sparse_rt.graph.decode import Decoding
from sparse_rt.sparsity import Family, Missed, Violation
from tests.new_patterns.numpy_kernels import kernels

ROWS = 4


@dataclass(frozen=True)
class Quads:
    """The pattern, at a quarter of the density."""

    name = f"{ROWS}x1"
    density = 0.25

    def first_violation(self, weight):
        nonzeros = (_blocks(weight) != 0).sum(axis=1)
        groups, channels = nonzeros.shape[:2]
        flat = nonzeros.reshape(groups, channels, -1)
        heights = np.minimum(ROWS, len(weight) - ROWS * np.arange(groups))
        bad = np.argwhere(((flat != 0) & (flat != heights[:, None, None])).transpose(0, 2, 1))
        if not len(bad):
            return None
        group, place, channel = (int(i) for i in bad[0])
        position = tuple(int(i) for i in np.unravel_index(place, weight.shape[2:])) if weight.ndim > 2 else ()
        count = int(flat[group, channel, place])
        return Violation(ROWS * group, position, channel, channel, count, rows=int(heights[group]))

    def mask(self, scores, density=None):
        if density not in (None, self.density):
            raise PatternError(message(f"pattern '{self.name}'", f"density {self.density:g}", f"{density:g}"))
        sums = _blocks(scores).astype(np.float64).sum(axis=1)  # (groups, c, *kernel)
        ranks = np.argsort(np.argsort(-sums, axis=None, kind="stable"), kind="stable").reshape(sums.shape)
        return np.repeat(ranks < sums.size // 4, ROWS, axis=0)[: len(scores)]

    def pieces(self, weight):
        yield slice(None), slice(None)


QUADS = Quads()


def _find(weight):
    return (QUADS,) if QUADS.first_violation(weight) is None else ()


def _parse(text):
    return QUADS if re.fullmatch(rf"\s*{ROWS}x1\s*", text) else None


FAMILY = Family("blocks of 4 rows", "'4x1'", "4x1", _parse, _find)


def _blocks(weight):
    """(n, c, *kernel) -> (ceil(n / 4), 4, c, *kernel), with rows of zeros at the end."""
    groups = -(-len(weight) // ROWS)
    padded = np.zeros((groups * ROWS, *weight.shape[1:]), weight.dtype)
    padded[: len(weight)] = weight
    return padded.reshape(groups, ROWS, *weight.shape[1:])


class QuadArrays(NamedTuple):
    """Values (blocks, 4), the group of rows and the column of each block, (blocks, 2) int16, and the size."""

    values: NDArray[Any]
    places: NDArray[np.int16]
    n: int
    k: int


@dataclass(frozen=True, eq=False)
class QuadWeight:
    """A weight in blocks, ordered by group and column; k runs over (kernel..., channel)."""

    values: NDArray[Any]
    places: NDArray[np.int16]
    shape: tuple[int, ...]

    format = property(lambda self: FORMAT)
    pattern = property(lambda self: QUADS)
    dtype = property(lambda self: self.values.dtype)
    tensors = property(lambda self: (self.values, self.places))
    arrays = property(lambda self: QuadArrays(*self.tensors, self.shape[0], int(np.prod(self.shape[1:]))))
    nbytes = property(lambda self: self.values.nbytes + self.places.nbytes)
    nonzeros = property(lambda self: int(np.count_nonzero(self.values)))

    def check(self, where):
        shape = checked_shape(self.shape, where)
        rows, k = -(-shape[0] // ROWS), int(np.prod(shape[1:]))
        blocks = len(self.values)
        if self.values.shape != (blocks, ROWS) or self.places.shape != (blocks, 2) or self.places.dtype != np.int16:
            got = f"{self.values.shape} and {self.places.shape}"
            raise FormatError(message(where, "values (blocks, 4) and places (blocks, 2)", got))
        if ((self.places < 0) | (self.places >= (rows, k))).any():
            raise FormatError(message(where, f"places within {(rows, k)}", str(self.places.max(axis=0))))

    def decode(self, where="compressed weight"):
        self.check(where)
        n, channels, *kernel = self.shape
        matrix = decoded(self.arrays)
        return np.ascontiguousarray(np.moveaxis(matrix.reshape(n, *kernel, channels), -1, 1))

    def rotate180(self):
        channels, positions = self.shape[1], int(np.prod(self.shape[2:]))
        columns = self.places[:, 1]
        turned = (positions - 1 - columns // channels) * channels + columns % channels
        order = np.lexsort((turned, self.places[:, 0]))
        places = np.stack([self.places[:, 0], turned], axis=1)[order]
        return QuadWeight(self.values[order], places.astype(np.int16), self.shape)

    def scaled(self, factors):
        values = scaled_values(self.values, self._by_block(factors))
        return None if values is None else QuadWeight(values, self.places, self.shape)

    def as_int8(self):
        values = int8_values(self.values)
        return None if values is None else QuadWeight(values, self.places, self.shape)

    def row_sums(self):
        return self._summed(self.values.astype(np.int64))

    def absolute_row_sums(self):
        return self._summed(np.abs(self.values.astype(np.int64)))

    def _summed(self, values):
        sums = np.zeros((-(-self.shape[0] // ROWS), ROWS), np.int64)
        np.add.at(sums, self.places[:, 0], values)
        return sums.reshape(-1)[: self.shape[0]]

    def _by_block(self, factors):
        padded = np.ones(-(-self.shape[0] // ROWS) * ROWS, np.float32)
        padded[: self.shape[0]] = factors
        return padded.reshape(-1, ROWS)[self.places[:, 0]]


def decoded(arrays):
    """The matrix (n, k) of a weight's arrays."""
    matrix = np.zeros((-(-arrays.n // ROWS), arrays.k, ROWS), arrays.values.dtype)
    matrix[arrays.places[:, 0], arrays.places[:, 1]] = arrays.values
    return matrix.transpose(0, 2, 1).reshape(-1, arrays.k)[: arrays.n]


class QuadFormat:
    """The format."""

    name = "quads"
    alg = "weight_blocks_4x1"
    suffix = "_quads"
    tensors = ("filter_blocks", "block_places")
    dtypes = DTYPES
    channel_multiple = 1
    least_channels = 1
    title = QUADS.name

    def stores(self, pattern):
        return pattern == QUADS

    def find(self, weight):
        violation = QUADS.first_violation(weight)
        return QUADS if violation is None else Missed(QUADS, violation)

    def nbytes(self, shape, dtype):
        return None

    def encode(self, weight, where="weight"):
        require_weight(weight, where)
        found = self.encode_if_it_holds(weight)
        if found is None:
            raise PatternError(message(where, QUADS.name, str(QUADS.first_violation(weight))))
        return found

    def encode_if_it_holds(self, weight):
        if QUADS.first_violation(weight) is not None:
            return None
        blocks = np.moveaxis(_blocks(weight), 2, -1).reshape(-(-len(weight) // ROWS), ROWS, -1).transpose(0, 2, 1)
        groups, columns = np.nonzero((blocks != 0).any(axis=2))
        places = np.stack([groups, columns], axis=1).astype(np.int16)
        return QuadWeight(np.ascontiguousarray(blocks[groups, columns]), places, weight.shape)

    def weight(self, arrays, shape):
        return QuadWeight(*arrays, tuple(shape))


FORMAT = QuadFormat()


def _write(body, inputs):
    values, places, size = inputs
    rows = body("Slice", size, body.constant([0]), body.constant([1]))
    columns = body("Slice", size, body.constant([1]), body.constant([2]))
    groups = body("Div", body("Add", rows, body.constant([ROWS - 1])), body.constant([ROWS]))
    shape = body("Concat", groups, columns, body.constant([ROWS]), axis=0)
    zeros = body("CastLike", body("ConstantOfShape", shape), values)
    blocks = body("ScatterND", zeros, body("Cast", places, to=ir.DataType.INT64.value), values)
    lines = body("Concat", body.constant([-1]), columns, axis=0)
    matrix = body("Reshape", body("Transpose", blocks, perm=[0, 2, 1]), lines)
    return body("Slice", matrix, body.constant([0]), rows, body.constant([0]))


DECODING = Decoding(
    write=_write,
    doc="blocks of 4 rows and their places -> matrix (n, k)",
    decoded_nbytes=lambda shape, dtype: int(np.prod(shape)) * max(4, dtype.itemsize),
    needs_size=True,
)


KERNELS = kernels(FORMAT.name, decoded)
