"""All kernels by name, and the choice among them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_rt_kernels.cpu import isa
from sparse_rt_kernels.product.epilogue import FloatEpilogue, IntegerEpilogue
from sparse_rt_kernels.product.geometry import ConvGeometry, MatmulShape
from sparse_rt_kernels.product.nchwc8 import NCHWc8
from sparse_rt_kernels.product.weight import PackedWeight
from sparse_rt_kernels.threads.launch import Launch
from sparse_rt_kernels.threads.pool import ThreadPool

__all__ = [
    "BlockedLayouts",
    "Kernel",
    "kernels",
    "register",
    "select",
]


#: What a kernel does with its sums.
Epilogue = FloatEpilogue | IntegerEpilogue


@dataclass(frozen=True, slots=True)
class BlockedLayouts:
    """How x and out of a convolution lie, in blocks of 8 channels or, where that is None, in planes."""

    x: NCHWc8 | None
    y: NCHWc8 | None


#: (geometry, dtype of x, dtype of out, weight, epilogue, threads, layouts).
PrepareBlocked = Callable[
    [ConvGeometry, np.dtype[Any], np.dtype[Any], PackedWeight[Any], Epilogue, int, BlockedLayouts], Launch | None
]


@dataclass(frozen=True, slots=True)
class Kernel:
    """One GEMM kernel and the two operations that reach it.

    A call is prepared once for a weight and a shape, and then run on arrays of that shape:

        pack_weight(weight) -> PackedWeight
        prepare_matmul(shape, packed, epilogue, threads).run(x (m, k), out (m, n), pool)
        call = prepare_conv(geometry, x_dtype, out_dtype, packed, epilogue, threads)
        call.run(x (b, c, h, w), out (b, n, oh, ow), pool)

    A kernel that `adds_residual` takes a second array: run(x, out, pool, other) computes clip(acc + bias + other).
    `other` has the shape, dtype and strides of `out`, and may be `out` itself: an element is read before it is written,
    once.

    `x` and `out` of a matrix product have contiguous columns and any row stride; those of a convolution are
    C-contiguous. Arrays are aligned to their item. `x` may hold fewer than k columns, since formats pad a weight's
    channels: what lies beyond x's last column counts as zero. `threads` is that of the pool. No size is
    0.

    Attributes
    ----------
    name
        ``<dtype>_<format>_<op>_<MR>x<NR>__<isa>``; registry key, test id, benchmark id, log line.
    dtype
        ``"u8s8"`` (uint8 or int8 activations, int8 weights) or ``"f32"``.
    format
        Of the weights that `pack_weight` takes, as a named tuple of arrays: ``"n2m4"`` :class:`.weight.Indexed`,
        ``"dense"`` :class:`.weight.Dense`. Any named tuple with these names will do.
    mr, nr
        Rows (m) and columns (n) of the register tile.
    isa
        The tier of :mod:`sparse_rt_kernels.cpu.isa` that it needs.
    adds_residual
        Whether its calls can add a residual.
    prepare_blocked
        Prepares convolutions over blocks of 8 channels; returns None for those that it does not fit. None if the kernel
        knows planes only.
    few_channels
        Up to how many channels, in or out, a dense kernel of the same tier may be faster, as far as was measured (see
        docs/kernels/measurements.md); None where it was not.
    saved_cycles
        Estimates from sizes (m, n, k) of a matrix product how many cycles of one thread it takes less than that of a
        dense engine; may be negative. None where nobody knows.
    """

    name: str
    dtype: str
    format: str
    mr: int
    nr: int
    isa: str
    pack_weight: Callable[[Any], PackedWeight[Any]]
    prepare_matmul: Callable[[MatmulShape, PackedWeight[Any], Epilogue, int], Launch]
    prepare_conv: Callable[[ConvGeometry, np.dtype[Any], np.dtype[Any], PackedWeight[Any], Epilogue, int], Launch]
    adds_residual: bool = False
    prepare_blocked: PrepareBlocked | None = None
    few_channels: int | None = None
    saved_cycles: Callable[[int, int, int], float] | None = None

    def matmul(
        self,
        x: NDArray[Any],
        packed: PackedWeight[Any],
        epilogue: Epilogue,
        out: NDArray[Any],
        pool: ThreadPool,
        other: NDArray[Any] | None = None,
    ) -> None:
        """``out = epilogue(x @ w.T)``, prepared and run at once; x and out may be empty, `other` is the residual."""
        if out.size:
            self.prepare_matmul(MatmulShape.of(x, out), packed, epilogue, pool.threads).run(x, out, pool, other)

    def conv(
        self,
        x: NDArray[Any],
        geometry: ConvGeometry,
        packed: PackedWeight[Any],
        epilogue: Epilogue,
        out: NDArray[Any],
        pool: ThreadPool,
        other: NDArray[Any] | None = None,
    ) -> None:
        """``out = epilogue(conv(x, w))``, prepared and run at once; x and out may be empty, `other` is the residual."""
        if out.size:
            self.prepare_conv(geometry, x.dtype, out.dtype, packed, epilogue, pool.threads).run(x, out, pool, other)


#: In the order of :func:`kernels`.
_kernels: dict[str, Kernel] = {}


def register(kernel: Kernel) -> Kernel:
    """Add `kernel` to the registry; names are unique."""
    if kernel.name in _kernels:
        raise ValueError(f"registry: expected a new kernel name, got {kernel.name!r} twice.")
    order = list(isa.TIERS)
    found = sorted((*_kernels.values(), kernel), key=lambda each: order.index(each.isa))
    _kernels.clear()
    _kernels.update({each.name: each for each in found})
    return kernel


def kernels() -> tuple[Kernel, ...]:
    """Return every kernel, those for the most specific tier first."""
    return tuple(_kernels.values())


def select(dtype: str, format: str, tier: str | None = None) -> Kernel:
    """Return the kernel for `dtype` and weights of `format` that fits this CPU best.

    Parameters
    ----------
    dtype, format
        Of :class:`Kernel`.
    tier
        The most specific tier to use; see :func:`sparse_rt_kernels.cpu.isa.supported_tiers`.

    Raises
    ------
    LookupError
        There is no such kernel.
    ValueError
        This CPU cannot run `tier`.
    """
    supported = isa.supported_tiers(tier)
    for kernel in kernels():
        if (kernel.dtype, kernel.format) == (dtype, format) and kernel.isa in supported:
            return kernel
    raise LookupError(f"registry: expected a kernel for dtype {dtype!r} and {format} weights, got none.")
