"""All kernels by name, and the choice among them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_rt_kernels import isa
from sparse_rt_kernels.epilogue import FloatEpilogue, IntegerEpilogue
from sparse_rt_kernels.geometry import ConvGeometry
from sparse_rt_kernels.parallel import ThreadPool

__all__ = ["Kernel", "PackedWeight", "kernels", "register", "select"]


@dataclass(frozen=True, slots=True)
class PackedWeight:
    """A weight in one kernel's own layout; only that kernel reads it.

    Attributes
    ----------
    kernel
        Name of the kernel that packed it.
    n, k
        Output channels and reduction length of the canonical weight (k a multiple of 4).
    values, index
        The panels.
    row_sums
        (n,) int32 sums over k of the stored values, for zero-point corrections; None for floats.
    addresses
        Of values, index and row_sums (0 for None), looked up once because kernels need them in every call.
    """

    kernel: str
    n: int
    k: int
    values: NDArray[Any]
    index: NDArray[np.uint8]
    row_sums: NDArray[np.int32] | None = None
    addresses: tuple[int, int, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        sums = 0 if self.row_sums is None else self.row_sums.ctypes.data
        object.__setattr__(self, "addresses", (self.values.ctypes.data, self.index.ctypes.data, sums))

    @property
    def nbytes(self) -> int:
        """Resident bytes."""
        sums = 0 if self.row_sums is None else self.row_sums.nbytes
        return self.values.nbytes + self.index.nbytes + sums


@dataclass(frozen=True, slots=True)
class Kernel:
    """One GEMM kernel and the two operations that reach it.

    ``pack_weight(values (n, k/2), index (n, ceil(k/8)) uint8) -> PackedWeight``;
    ``matmul(x (m, k), packed, epilogue, out (m, n), pool)``;
    ``conv(x (b, c, h, w), geometry, packed, epilogue, out (b, n, oh, ow), pool)``.

    `x` and `out` of `matmul` have contiguous columns and any row stride; those of `conv` are C-contiguous. Arrays are
    aligned to their item. `x` may hold fewer than k columns: the weight's channels are padded to a multiple of 4, and
    what lies beyond x's last column counts as zero.

    Attributes
    ----------
    name
        ``<dtype>_<format>_<op>_<MR>x<NR>__<isa>``; registry key, test id, benchmark id, log line.
    dtype
        ``"u8s8"`` (uint8 or int8 activations, int8 weights) or ``"f32"``.
    mr, nr
        Rows (m) and columns (n) of the register tile.
    isa
        The tier of :mod:`sparse_rt_kernels.isa` that it needs.
    form
        ``"n2m4"``, or ``"dense"``: then `pack_weight` takes values (n, k), k a multiple of 4, and an index (n, 0).
    """

    name: str
    dtype: str
    mr: int
    nr: int
    isa: str
    pack_weight: Callable[[NDArray[Any], NDArray[np.uint8]], PackedWeight]
    matmul: Callable[[NDArray[Any], PackedWeight, FloatEpilogue | IntegerEpilogue, NDArray[Any], ThreadPool], None]
    conv: Callable[
        [NDArray[Any], ConvGeometry, PackedWeight, FloatEpilogue | IntegerEpilogue, NDArray[Any], ThreadPool],
        None,
    ]
    form: str = "n2m4"


_kernels: dict[str, Kernel] = {}


def register(kernel: Kernel) -> Kernel:
    """Add `kernel` to the registry; names are unique."""
    if kernel.name in _kernels:
        raise ValueError(f"registry: expected a new kernel name, got {kernel.name!r} twice.")
    _kernels[kernel.name] = kernel
    return kernel


def kernels() -> tuple[Kernel, ...]:
    """Return every kernel, those for the most specific tier first."""
    order = list(isa.TIERS)
    return tuple(sorted(_kernels.values(), key=lambda kernel: order.index(kernel.isa)))


def select(dtype: str, tier: str | None = None, form: str = "n2m4") -> Kernel:
    """Return the kernel for `dtype` and weights of `form` that fits this CPU best.

    Parameters
    ----------
    dtype, form
        Of :class:`Kernel`.
    tier
        The most specific tier to use; see :func:`sparse_rt_kernels.isa.supported_tiers`.

    Raises
    ------
    LookupError
        There is no such kernel.
    ValueError
        This CPU cannot run `tier`.
    """
    supported = isa.supported_tiers(tier)
    for kernel in kernels():
        if (kernel.dtype, kernel.form) == (dtype, form) and kernel.isa in supported:
            return kernel
    raise LookupError(f"registry: expected a kernel for dtype {dtype!r} and {form} weights, got none.")
