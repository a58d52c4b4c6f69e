"""One layer that a sparse kernel runs."""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sparse_rt_kernels.epilogue import FloatEpilogue, IntegerEpilogue
from sparse_rt_kernels.geometry import ConvGeometry
from sparse_rt_kernels.parallel import ThreadPool
from sparse_rt_kernels.registry import Kernel, PackedWeight

from sparse_rt.errors import FeedError, ModelError, message
from sparse_rt.plan.convolution import Convolution
from sparse_rt.plan.epilogues import Requantisation
from sparse_rt.plan.step import Environment

__all__ = ["SparseStep"]


@dataclass(frozen=True, eq=False, slots=True)
class SparseStep:
    """Run one layer through a kernel.

    Kernels use raw pointers, so this is the one place that checks what they trust: :meth:`__post_init__` the weight
    and the epilogue, :meth:`run` the activation; outputs are allocated here.

    Attributes
    ----------
    name
        Of the layer.
    x, y
        Names of the values that are read and written.
    x_dtype, y_dtype
        Of the arrays.
    kernel, packed, epilogue
        What runs.
    n, channels
        Output and input channels of the dense weight.
    side
        Which operand of a matrix product is constant.
    convolution
        None for matrix products.
    x_zero_point, scale
        Names of the values that hold a zero point of x, and a scale of the product, which are known only at run time.
    pad_value
        The zero point of x where it is constant.
    requantisation
        What the epilogue is then made from; None where `epilogue` holds as it is.
    x_rank
        How many axes x must have; None where any number will do.
    """

    name: str
    x: str
    y: str
    x_dtype: np.dtype[Any]
    y_dtype: np.dtype[Any]
    kernel: Kernel
    packed: PackedWeight
    epilogue: FloatEpilogue | IntegerEpilogue
    n: int
    channels: int
    side: Literal["left", "right"] = "right"
    convolution: Convolution | None = None
    x_zero_point: str | None = None
    scale: str | None = None
    pad_value: int = 0
    requantisation: Requantisation | None = None
    x_rank: int | None = None

    def __post_init__(self) -> None:
        where = f"layer '{self.name}'"
        kernel_size = 1 if self.convolution is None else math.prod(self.convolution.kernel)
        k = kernel_size * (-(-self.channels // 4) * 4)
        if (self.packed.kernel, self.packed.n, self.packed.k) != (self.kernel.name, self.n, k):
            got = f"{self.packed.kernel}, n = {self.packed.n}, k = {self.packed.k}"
            raise ModelError(message(where, f"a weight for {self.kernel.name}, n = {self.n}, k = {k}", got))
        vectors = [self.epilogue.bias]
        if isinstance(self.epilogue, IntegerEpilogue):
            vectors += [self.epilogue.scale, self.epilogue.offset.view(np.float32)]
        for vector in vectors:
            if vector.shape != (self.n,) or vector.dtype != np.float32 or not vector.flags.c_contiguous:
                raise ModelError(
                    message(where, f"{self.n} contiguous values a vector of the epilogue", str(vector.shape))
                )

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the values that it reads."""
        return tuple(name for name in (self.x, self.x_zero_point, self.scale) if name is not None)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the values that it writes."""
        return (self.y,)

    def run(self, values: Environment, pool: ThreadPool, run_options: Any = None) -> None:
        """Compute y.

        Raises
        ------
        FeedError
            x has the wrong dtype or does not fit the weight.
        """
        x = self._checked(values[self.x])
        zero_point = self._dynamic_zero_point(values)
        epilogue = self._epilogue(values, zero_point)
        if self.convolution is not None:
            geometry = self.convolution.geometry(x.shape)
            if zero_point is not None:
                geometry = replace(geometry, pad_value=zero_point)
            values[self.y] = self._convolve(x, geometry, epilogue, pool)
        elif self.side == "right" or x.ndim == 1:
            values[self.y] = self._multiply(x, epilogue, pool)
        else:
            values[self.y] = self._multiply_left(x, epilogue, pool)

    def describe(self) -> str:
        """Return one line for a person."""
        return f"{self.kernel.name}  {self.name}  {self.x} -> {self.y}"

    def output_shape(self, shape: tuple[int | None, ...] | None) -> tuple[int | None, ...] | None:
        """Return y's shape for an x whose sizes may be partly unknown (None), or None where nothing is known."""
        if shape is None:
            return None
        if self.convolution is not None:
            if len(shape) != self.convolution.axes + 2:
                return None
            known = tuple(size for size in shape if size is not None)
            if len(known) == len(shape):
                return self.convolution.output(self.convolution.geometry(known))
            return (shape[0], self.n, *(None for _ in shape[2:]))
        if self.side == "right" or len(shape) == 1:
            return (*shape[:-1], self.n)
        return (*shape[:-2], self.n, shape[-1])

    def _checked(self, x: NDArray[Any]) -> NDArray[Any]:
        where = f"layer '{self.name}', input '{self.x}'"
        if x.dtype != self.x_dtype:
            raise FeedError(message(where, str(self.x_dtype), str(x.dtype)))
        if self.x_rank is not None and x.ndim != self.x_rank:
            raise FeedError(message(where, f"{self.x_rank} axes", f"shape {x.shape}"))
        if self.convolution is None:
            axis = -1 if self.side == "right" or x.ndim == 1 else -2
            if x.ndim == 0 or x.shape[axis] != self.channels:
                raise FeedError(message(where, f"{self.channels} elements on axis {axis}", f"shape {x.shape}"))
        if not (x.flags.c_contiguous and x.flags.aligned):
            return np.require(x, requirements=("C", "A"))
        return x

    def _empty(self, shape: tuple[int, ...]) -> NDArray[Any]:
        try:
            return np.empty(shape, self.y_dtype)
        except (MemoryError, ValueError) as error:  # ValueError: larger than any array can be
            where = f"layer '{self.name}', output '{self.y}'"
            raise FeedError(message(where, "an output that memory can hold", f"shape {shape}")) from error

    def _dynamic_zero_point(self, values: Environment) -> int | None:
        if self.x_zero_point is None:
            return None
        point = values[self.x_zero_point]
        if point.size != 1 or point.dtype != self.x_dtype:
            where = f"layer '{self.name}', zero point '{self.x_zero_point}'"
            raise FeedError(message(where, f"one {self.x_dtype}", f"{point.dtype} {point.shape}"))
        return int(point.reshape(()))

    def _epilogue(self, values: Environment, zero_point: int | None) -> FloatEpilogue | IntegerEpilogue:
        if self.requantisation is None:
            return self.epilogue
        scale = None
        if self.scale is not None:
            factor = values[self.scale]
            if factor.size not in (1, self.n) or factor.dtype != np.float32:
                where = f"layer '{self.name}', scale '{self.scale}'"
                raise FeedError(message(where, f"1 or {self.n} float32", f"{factor.dtype} {factor.shape}"))
            scale = np.ascontiguousarray(np.broadcast_to(factor.reshape(-1), (self.n,)))
        return self.requantisation.epilogue(self.pad_value if zero_point is None else zero_point, scale)

    def _multiply(self, x: NDArray[Any], epilogue: FloatEpilogue | IntegerEpilogue, pool: ThreadPool) -> NDArray[Any]:
        out = self._empty((*x.shape[:-1], self.n))
        if out.size:
            rows = x.reshape(-1, self.channels)
            self.kernel.matmul(rows, self.packed, epilogue, out.reshape(-1, self.n), pool)
        return out

    def _multiply_left(
        self, x: NDArray[Any], epilogue: FloatEpilogue | IntegerEpilogue, pool: ThreadPool
    ) -> NDArray[Any]:
        """Y = W x: a pointwise convolution over an image of one row and m pixels."""
        lead, m = x.shape[:-2], x.shape[-1]
        out = self._empty((*lead, self.n, m))
        if out.size:
            batch = math.prod(lead)
            geometry = ConvGeometry(batch, self.channels, 1, m, self.n)
            image = x.reshape(batch, self.channels, 1, m)
            self.kernel.conv(image, geometry, self.packed, epilogue, out.reshape(batch, self.n, 1, m), pool)
        return out

    def _convolve(
        self, x: NDArray[Any], geometry: ConvGeometry, epilogue: FloatEpilogue | IntegerEpilogue, pool: ThreadPool
    ) -> NDArray[Any]:
        rows = () if x.ndim == 3 else (geometry.out_height,)
        out = self._empty((geometry.batch, self.n, *rows, geometry.out_width))
        if out.size:
            image = x.reshape(geometry.batch, geometry.channels, geometry.height, geometry.width)
            shape = (geometry.batch, self.n, geometry.out_height, geometry.out_width)
            self.kernel.conv(image, geometry, self.packed, epilogue, out.reshape(shape), pool)
        return out
