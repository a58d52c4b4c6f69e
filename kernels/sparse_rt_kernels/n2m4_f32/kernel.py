"""The kernels of the float32 2:4 family, as the registry describes them."""

from collections.abc import Callable
from typing import Any

from sparse_rt_kernels.n2m4_f32 import portable_calls, weight
from sparse_rt_kernels.n2m4_f32.blocking import channel_lanes
from sparse_rt_kernels.n2m4_f32.blocking.panels import (
    CHANNELS,
    MAX_VECTORS,
    PORTABLE_VECTORS,
    rows_as_lanes,
)
from sparse_rt_kernels.n2m4_f32.simd_calls import SimdCalls
from sparse_rt_kernels.product.registry import Kernel
from sparse_rt_kernels.product.weight import Indexed, PackedWeight, Panels
from sparse_rt_kernels.vectors.registers import LANES

__all__ = ["PORTABLE", "SIMD", "SIMD_CHANNEL_LANES", "SIMD_ROW_LANES"]


#: See :class:`.registry.Kernel`.
_FEW_CHANNELS = 64
#: Rows below which channels are the lanes, so that nothing is transposed.
_LEAST_TRANSPOSED = 96


def _saved_cycles(m: int, n: int, k: int) -> float:
    """Return what a product saves against a dense engine.

    A dense engine takes 1/32 cycle an element of the product, this kernel 3/5 of that; but its lanes are rows, so that
    x and y are transposed: 1/4 cycle an element of x, 7/16 one of y. With few channels or a short reduction this is
    more than is saved; measured, 512 rows: n = 16 loses at every k, n = 64 up to k = 32.
    """
    transposed = 0.0 if m < _LEAST_TRANSPOSED else m * (7 / 16 * n + k / 4)
    return m * n * k / 80 - transposed


def _kernel(
    tier: str, shapes: tuple[tuple[int, int], ...], prepare_matmul: Any, prepare_conv: Any, adds_residual: bool
) -> Kernel:
    """Describe a kernel of one or several tile shapes (rows, channels)."""
    tiles = "_".join(f"{rows}x{channels}" for rows, channels in shapes)
    name = f"f32_n2m4_gemm_{tiles}__{tier}"

    def pack_weight(arrays: Indexed) -> PackedWeight[Panels]:
        return weight.pack(name, arrays)

    prepare = prepare_matmul, prepare_conv
    return Kernel(
        name,
        "f32",
        "n2m4",
        *shapes[0],
        tier,
        pack_weight,
        *prepare,
        adds_residual=adds_residual,
        few_channels=_FEW_CHANNELS,
        saved_cycles=_saved_cycles,
    )


_ROW_LANES = (MAX_VECTORS * LANES, CHANNELS)
_CHANNEL_LANES = (channel_lanes.MAX_ROWS, CHANNELS)


def _simd(shapes: tuple[tuple[int, int], ...], rows_as_lanes: Callable[[int], int]) -> Kernel:
    calls = SimdCalls(rows_as_lanes)
    return _kernel("avx512", shapes, calls.prepare_matmul, calls.prepare_conv, adds_residual=True)


#: Both shapes: in each call, as many rows become lanes as do not waste them, and the others meet lanes of channels.
SIMD = _simd((_ROW_LANES, _CHANNEL_LANES), rows_as_lanes)
SIMD_ROW_LANES = _simd((_ROW_LANES,), lambda rows: rows)
SIMD_CHANNEL_LANES = _simd((_CHANNEL_LANES,), lambda rows: 0)
PORTABLE = _kernel(
    "generic",
    ((PORTABLE_VECTORS * LANES, CHANNELS),),
    portable_calls.prepare_matmul,
    portable_calls.prepare_conv,
    adds_residual=False,
)
