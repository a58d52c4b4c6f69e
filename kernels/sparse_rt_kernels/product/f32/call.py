"""Calls of float32 products: how they are prepared, and what their tasks are called with."""

import functools
from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparse_rt_kernels.jit.compilation import TaskFunction, kernel_jit
from sparse_rt_kernels.product.epilogue import FloatEpilogue, IntegerEpilogue
from sparse_rt_kernels.product.geometry import ConvGeometry, MatmulShape
from sparse_rt_kernels.product.indirection import NO_INDIRECTION, Indirection, indirection_of
from sparse_rt_kernels.product.weight import PackedWeight, Panels
from sparse_rt_kernels.threads.launch import Launch, Phase

__all__ = ["CALL", "Call", "FloatCalls", "Rows", "call_in", "prepare", "residual_at", "share_record"]

#: What the tasks of a call share: `shares` is the address of one record for each task; the others are fields of
#: :class:`Call` and :class:`Indirection`.
CALL = np.dtype(
    (
        np.record,  # Python can read its fields, too
        [
            *((name, "i8") for name in ("shares", "values", "indexes", "octets", "x_stride", "columns", "out_stride")),
            *((name, "i8") for name in ("bias", "n", "rows", "is_conv")),
            *((name, "f8") for name in ("low", "high")),
            *((name, "i8") for name in Indirection._fields),
        ],
    )
)


class Call(NamedTuple):
    """One matmul or conv, as Numba takes it. Addresses and strides are in bytes.

    Attributes
    ----------
    x, x_stride, columns
        Address of x; for matmul the bytes from row to row, and how many columns x has.
    out, out_stride
        Address of out; for matmul the bytes from row to row.
    residual
        Address of what is added before clipping, in the form of out, perhaps out itself; 0 for nothing.
    bias, low, high
        Address of (n,) float32; clip bounds.
    values, indexes
        Addresses of the packed weight.
    n, octets
        Output channels; reduction elements / 8, rounded up.
    rows
        Rows of the matrix, or output pixels of an image.
    is_conv
        Whether rows are pixels of images, brought in by an indirection, or rows of a matrix, transposed.
    """

    x: int
    x_stride: int
    columns: int
    out: int
    out_stride: int
    residual: int
    bias: int
    low: np.float32
    high: np.float32
    values: int
    indexes: int
    n: int
    octets: int
    rows: int
    is_conv: int


@kernel_jit
def call_in(record: Any, x: int, residual: int, out: int) -> Call:
    """Return the call of a :data:`CALL` on the arrays at these addresses."""
    r = record
    finish = (residual, r.bias, np.float32(r.low), np.float32(r.high))
    weight = (r.values, r.indexes, r.n, r.octets)
    return Call(x, r.x_stride, r.columns, out, r.out_stride, *finish, *weight, r.rows, r.is_conv)


@kernel_jit
def residual_at(call: Call, offset: int) -> int:
    """Return the address of the residual `offset` bytes from its start; 0 if there is none."""
    return call.residual + offset if call.residual != 0 else 0


class Rows(NamedTuple):
    """The activation rows of a call: those of one matrix, or the pixels of images.

    Attributes
    ----------
    rows, images
        How many each of how many images has.
    x_stride, columns, out_stride
        Of a matrix: the bytes from row to row of x, how many columns it has, and the bytes from row to row of out.
    is_conv, indirection
        Whether they are pixels, and what those read.
    """

    rows: int
    images: int
    x_stride: int
    columns: int
    out_stride: int
    is_conv: int
    indirection: Indirection

    @classmethod
    def of_matrix(cls, shape: MatmulShape) -> "Rows":
        """Return the rows of a matrix product."""
        return cls(shape.m, 1, shape.x_stride, shape.columns, shape.out_stride, 0, NO_INDIRECTION)

    @classmethod
    def of_images(cls, geometry: ConvGeometry) -> "Rows":
        """Return the output pixels of a convolution."""
        return _pixels(geometry)


@functools.lru_cache(maxsize=1024)
def _pixels(geometry: ConvGeometry) -> Rows:
    indirection = indirection_of(geometry)
    return Rows(indirection.out_pixels, geometry.batch, 0, 0, 0, 1, indirection)


def float_epilogue(kernel: str, epilogue: FloatEpilogue | IntegerEpilogue) -> FloatEpilogue:
    """Return `epilogue`, refusing one for integers."""
    if not isinstance(epilogue, FloatEpilogue):
        raise TypeError(f"{kernel}: expected a FloatEpilogue, got {type(epilogue).__name__}.")
    return epilogue


def share_record(fields: tuple[str, ...]) -> np.dtype[Any]:
    """Return the record that holds a share, a named tuple of ints with these fields."""
    return np.dtype((np.record, [(name, "i8") for name in fields]))


def prepare(
    task: TaskFunction,
    shares: NDArray[Any],
    rows: Rows,
    packed: PackedWeight[Panels],
    epilogue: FloatEpilogue,
    scratch_bytes: int,
) -> Launch:
    """Prepare a call in as many tasks as there are shares, an array of :func:`share_record`."""
    octets = packed.panels.values.shape[1]
    strides = (rows.x_stride, rows.columns, rows.out_stride)
    finish = (epilogue.address, packed.n, rows.rows, rows.is_conv, epilogue.low, epilogue.high)
    record = (shares.ctypes.data, *packed.addresses[:2], octets, *strides, *finish, *rows.indirection)
    return Launch(
        [Phase(task, np.array([record], CALL), len(shares))],
        0,
        scratch_bytes,
        keep=(packed, epilogue, shares),
        constants=(*packed.addresses, epilogue.address),
    )


class FloatCalls(ABC):
    """How a kernel prepares its calls: matrix products and convolutions differ in what their rows are."""

    def prepare_matmul(
        self, shape: MatmulShape, packed: PackedWeight[Panels], epilogue: FloatEpilogue | IntegerEpilogue, threads: int
    ) -> Launch:
        """Prepare ``out = clip(x @ w.T + bias)``; see :class:`sparse_rt_kernels.product.registry.Kernel`."""
        return self.prepare_rows(Rows.of_matrix(shape), packed, float_epilogue(packed.kernel, epilogue), threads)

    def prepare_conv(
        self,
        geometry: ConvGeometry,
        x_dtype: np.dtype[Any],
        out_dtype: np.dtype[Any],
        packed: PackedWeight[Panels],
        epilogue: FloatEpilogue | IntegerEpilogue,
        threads: int,
    ) -> Launch:
        """Prepare ``out = clip(conv(x, w) + bias)``; see :class:`sparse_rt_kernels.product.registry.Kernel`."""
        floats = float_epilogue(packed.kernel, epilogue)
        return self.prepare_pixels(geometry, packed, floats, threads)

    def prepare_pixels(
        self, geometry: ConvGeometry, packed: PackedWeight[Panels], epilogue: FloatEpilogue, threads: int
    ) -> Launch:
        """Prepare a convolution."""
        return self.prepare_rows(Rows.of_images(geometry), packed, epilogue, threads)

    @abstractmethod
    def prepare_rows(self, rows: Rows, packed: PackedWeight[Panels], epilogue: FloatEpilogue, threads: int) -> Launch:
        """Prepare a call for these rows."""
