"""One layer that a sparse kernel runs."""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import numpy as np
from sparse_rt_kernels.product.epilogue import FloatEpilogue, IntegerEpilogue
from sparse_rt_kernels.product.geometry import ConvGeometry, MatmulShape
from sparse_rt_kernels.product.registry import Kernel
from sparse_rt_kernels.product.weight import PackedWeight
from sparse_rt_kernels.threads.launch import Launch
from sparse_rt_kernels.threads.pool import ThreadPool

from sparse_rt import formats
from sparse_rt.errors import FeedError, ModelError, message
from sparse_rt.plan.steps.base import StepBase
from sparse_rt.plan.steps.calls import Calls
from sparse_rt.plan.steps.convolution import Convolution
from sparse_rt.plan.steps.requantisation import Requantisation
from sparse_rt.plan.steps.step import Environment, Shape, Step, StepCall

__all__ = ["SparseStep"]


class _Call(NamedTuple):
    """A kernel call for x of one shape: the shape of y, those that the kernel sees, and the call itself."""

    y_shape: tuple[int, ...]
    kernel_x: tuple[int, ...]
    kernel_y: tuple[int, ...]
    prepared: Launch | None


@dataclass(frozen=True, eq=False, slots=True)
class SparseStep(StepBase):
    """Run one layer through a kernel.

    Kernels use raw pointers: :meth:`__post_init__` checks the weight and the epilogue, :meth:`run` the activation.

    Attributes
    ----------
    name
        Of the layer.
    x, x_dtype
        The activation.
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
    residual
        Name of a value that is added before clipping; None for none. The call prepared for x takes it as `other`, and
        needs it to have y's shape and dtype. It may be read from the very buffer that y is written to.
    apart
        Steps that compute the same where the residual has another shape, and is broadcast with y.
    """

    x: str = field()
    x_dtype: np.dtype[Any]
    kernel: Kernel
    packed: PackedWeight[Any]
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
    residual: str | None = None
    apart: tuple[Step, ...] = ()
    inputs: tuple[str, ...] = field(init=False, repr=False)
    x_dtypes: tuple[np.dtype[Any], ...] = field(init=False, repr=False)
    _calls: Calls[_Call] = field(default_factory=Calls, init=False, repr=False)

    def __post_init__(self) -> None:
        read = (self.x, self.x_zero_point, self.scale, self.residual)
        object.__setattr__(self, "inputs", tuple([name for name in read if name]))
        # Of those alone that it reads where it is bindable.
        dtypes = (self.x_dtype,) if self.residual is None else (self.x_dtype, self.y_dtype)
        object.__setattr__(self, "x_dtypes", dtypes)
        kernel = () if self.convolution is None else self.convolution.kernel
        multiple = formats.by_name(self.kernel.format).channel_multiple
        k = formats.reduction_length((self.n, self.channels, *kernel), multiple)
        if (self.packed.kernel, self.packed.n, self.packed.k) != (self.kernel.name, self.n, k):
            got = f"{self.packed.kernel}, n = {self.packed.n}, k = {self.packed.k}"
            raise ModelError(message(self.where, f"a weight for {self.kernel.name}, n = {self.n}, k = {k}", got))
        vectors = [self.epilogue.bias]
        if isinstance(self.epilogue, IntegerEpilogue):
            vectors += [self.epilogue.scale, self.epilogue.offset.view(np.float32)]
        for vector in vectors:
            if vector.shape != (self.n,) or vector.dtype != np.float32 or not vector.flags.c_contiguous:
                expected = f"{self.n} contiguous values a vector of the epilogue"
                raise ModelError(message(self.where, expected, str(vector.shape)))

    @property
    def where(self) -> str:
        """What errors call it."""
        return f"layer '{self.name}'"

    @property
    def overwrites(self) -> tuple[str, ...]:
        """Names of inputs over which it may write its output: the residual, unless that is x, which all tasks read."""
        return () if self.residual in (None, self.x) else (self.residual,)

    @property
    def alike(self) -> Hashable | None:
        """What tells its calls from those of other layers, but for where weights and epilogue lie."""
        convolution = None if self.convolution is None else replace(self.convolution, name="")
        packed, epilogue = self.packed, self.epilogue
        return (
            *(SparseStep, self.kernel.name, self.n, self.channels, self.side, convolution, self.x_rank),
            *(self.x_dtype, self.y_dtype, self.residual is None, self.pad_value),
            tuple([None if panel is None else (panel.shape, panel.dtype) for panel in packed.panels]),
            *(type(epilogue), epilogue.low, epilogue.high, getattr(epilogue, "zero_point", 0)),
        )

    @property
    def constants(self) -> tuple[int, ...]:
        """Addresses of its weights and of its epilogue's vectors."""
        return (*self.packed.addresses, *self.epilogue.constants)

    def is_bindable(self, shapes: Mapping[str, tuple[int, ...]]) -> bool:
        """Return whether shapes are all that a call depends on."""
        return self._is_constant

    def bind(self, shapes: Sequence[tuple[int, ...]], threads: int) -> StepCall | None:
        """Return the call for inputs of `shapes`; None if the residual must be broadcast.

        Raises
        ------
        FeedError
            An x of that shape does not fit the weight.
        """
        self._check_shape(shapes[0])
        call = self._prepare(shapes[0], self.epilogue, None, threads)
        if any(shape != call.y_shape for shape in shapes[1:]):
            return None
        return StepCall(call.y_shape, call.prepared)

    def run(self, values: Environment, pool: ThreadPool, run_options: Any = None) -> None:
        """Compute y.

        Raises
        ------
        FeedError
            x has the wrong dtype or does not fit the weight.
        """
        x = self._checked(self.x, self.x_dtype, values[self.x])
        self._check_shape(x.shape)
        other = None if self.residual is None else values[self.residual]
        if self._is_constant:
            call = self._call(x.shape, pool.threads)
        else:
            zero_point = self._dynamic_zero_point(values)
            call = self._prepare(x.shape, self._epilogue(values, zero_point), zero_point, pool.threads)
        if other is not None and (other.shape != call.y_shape or other.dtype != self.y_dtype):
            self._run_apart(values, pool)
            return
        y = self.empty_y(call.y_shape)
        if call.prepared is not None:
            if other is not None:
                other = np.require(other, requirements=("C", "A"))
            call.prepared.run(x.reshape(call.kernel_x), y.reshape(call.kernel_y), pool, other)
        values[self.y] = y

    def call_for(self, shape: tuple[int, ...], threads: int) -> Launch | None:
        """Prepare the call for an x of `shape`, so that runs find it; None where there is nothing to call.

        Where the epilogue is known only at run time, the call returned is of the same kind as those of runs.
        """
        return (
            self._call(shape, threads) if self._is_constant else self._prepare(shape, self.epilogue, None, threads)
        ).prepared

    def describe(self) -> str:
        """Return one line for a person."""
        added = "" if self.residual is None else f" + {self.residual}"
        return f"{self.kernel.name}  {self.name}  {self.x}{added} -> {self.y}"

    def output_shape(self, shapes: Sequence[Shape | None]) -> Shape | None:
        """Return y's shape for an x whose sizes may be partly unknown (None), or None where nothing is known."""
        shape = shapes[0]
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

    @property
    def _is_constant(self) -> bool:
        """Whether all that a call needs but x is known before a run."""
        return self.requantisation is None and self.x_zero_point is None

    def _run_apart(self, values: Environment, pool: ThreadPool) -> None:
        """Compute y in steps that broadcast the residual, or say what is wrong with it."""
        inner = {name: values[name] for name in self.inputs}
        for step in self.apart:
            step.run(inner, pool)
        values[self.y] = inner[self.y]

    def _call(self, shape: tuple[int, ...], threads: int) -> _Call:
        key = (threads, *shape)
        return self._calls.get(key) or self._calls.keep(key, self._prepare(shape, self.epilogue, None, threads))

    def _check_shape(self, shape: tuple[int, ...]) -> None:
        where = f"{self.where}, input '{self.x}'"
        if self.x_rank is not None and len(shape) != self.x_rank:
            raise FeedError(message(where, f"{self.x_rank} axes", f"shape {shape}"))
        if self.convolution is None:
            axis = -1 if self.side == "right" or len(shape) == 1 else -2
            if not shape or shape[axis] != self.channels:
                raise FeedError(message(where, f"{self.channels} elements on axis {axis}", f"shape {shape}"))

    def _dynamic_zero_point(self, values: Environment) -> int | None:
        if self.x_zero_point is None:
            return None
        point = values[self.x_zero_point]
        if point.size != 1 or point.dtype != self.x_dtype:
            where = f"{self.where}, zero point '{self.x_zero_point}'"
            raise FeedError(message(where, f"one {self.x_dtype}", f"{point.dtype} {point.shape}"))
        return int(point.reshape(()))

    def _epilogue(self, values: Environment, zero_point: int | None) -> FloatEpilogue | IntegerEpilogue:
        if self.requantisation is None:
            return self.epilogue
        scale = None
        if self.scale is not None:
            factor = values[self.scale]
            if factor.size not in (1, self.n) or factor.dtype != np.float32:
                where = f"{self.where}, scale '{self.scale}'"
                raise FeedError(message(where, f"1 or {self.n} float32", f"{factor.dtype} {factor.shape}"))
            scale = np.ascontiguousarray(np.broadcast_to(factor.reshape(-1), (self.n,)))
        return self.requantisation.epilogue(self.pad_value if zero_point is None else zero_point, scale)

    def _prepare(
        self, shape: tuple[int, ...], epilogue: FloatEpilogue | IntegerEpilogue, zero_point: int | None, threads: int
    ) -> _Call:
        """Prepare the call for an x of `shape`; first try whether memory can hold its y."""
        if self.convolution is not None:
            geometry = self.convolution.geometry(shape)
            if zero_point is not None:
                geometry = replace(geometry, pad_value=zero_point)
            rows = () if len(shape) == 3 else (geometry.out_height,)
            return self._prepare_conv((geometry.batch, self.n, *rows, geometry.out_width), geometry, epilogue, threads)
        if self.side == "left" and len(shape) > 1:
            # Y = W x is a pointwise convolution over images of one row and m pixels.
            *lead, _, m = shape
            geometry = ConvGeometry(math.prod(lead), self.channels, 1, m, self.n)
            return self._prepare_conv((*lead, self.n, m), geometry, epilogue, threads)
        y_shape, m = (*shape[:-1], self.n), math.prod(shape[:-1])
        self.empty_y(y_shape)
        if not math.prod(y_shape):
            return _Call(y_shape, shape, y_shape, None)
        strides = (self.channels * self.x_dtype.itemsize, self.n * self.y_dtype.itemsize)
        matrix = MatmulShape(m, self.channels, self.x_dtype, self.y_dtype, *strides)
        prepared = self.kernel.prepare_matmul(matrix, self.packed, epilogue, threads)
        return _Call(y_shape, (m, self.channels), (m, self.n), prepared)

    def _prepare_conv(
        self,
        y_shape: tuple[int, ...],
        geometry: ConvGeometry,
        epilogue: FloatEpilogue | IntegerEpilogue,
        threads: int,
    ) -> _Call:
        g = geometry
        self.empty_y(y_shape)
        if not math.prod(y_shape):
            return _Call(y_shape, (g.batch, g.channels, g.height, g.width), y_shape, None)
        prepared = self.kernel.prepare_conv(g, self.x_dtype, self.y_dtype, self.packed, epilogue, threads)
        kernel_y = (g.batch, self.n, g.out_height, g.out_width)
        return _Call(y_shape, (g.batch, g.channels, g.height, g.width), kernel_y, prepared)
