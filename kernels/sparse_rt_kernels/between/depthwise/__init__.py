"""Depthwise convolutions of planes (NCHW), as launches of native tasks. Under ``NUMBA_DISABLE_JIT`` there is none."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_rt_kernels.between.depthwise.float_permuted import float_pieces, prepare_permuted_floats
from sparse_rt_kernels.between.depthwise.float_rows import can_share_rows, prepare_rows
from sparse_rt_kernels.between.depthwise.floats import prepare_floats
from sparse_rt_kernels.between.depthwise.integer import prepare_integer
from sparse_rt_kernels.between.depthwise.permuted import permuted_blocks, prepare_permuted
from sparse_rt_kernels.cpu import isa
from sparse_rt_kernels.product.epilogue import FloatEpilogue, IntegerEpilogue
from sparse_rt_kernels.product.geometry import ConvGeometry
from sparse_rt_kernels.threads.launch import Launch

__all__ = ["prepare_depthwise"]


def prepare_depthwise(
    geometry: ConvGeometry,
    x_dtype: np.dtype[Any],
    out_dtype: np.dtype[Any],
    weight: NDArray[Any],
    epilogue: FloatEpilogue | IntegerEpilogue,
    threads: int,
    tier: str | None = None,
) -> Launch:
    """Prepare ``out[b, c, p, q] = epilogue(sum over (r, s) of x[b, c, p * down + r * dy, ...] * weight[c, r, s])``.

    Integer sums are exact (int32), and so is the epilogue: see :class:`.epilogue.IntegerEpilogue`.

    Parameters
    ----------
    geometry
        As many output channels as channels; no zero-stuffing. Any kernel, strides, dilations and pads; kernels of 3x3
        and 5x5 with column strides 1 and 2 are fast. No size is 0.
    x_dtype, out_dtype
        uint8 or int8 to int32, float32, uint8 or int8; or float32 to float32. Arrays are C-contiguous.
    weight
        (c, kh, kw) int8, or float32. It is copied.
    epilogue
        An :class:`IntegerEpilogue` for int8, else a :class:`FloatEpilogue`; it must not change.
    threads
        Of the pool.
    tier
        The most specific one whose instructions may be used; see :func:`isa.supported_tiers`.

    Returns
    -------
    Launch
        ``run(x, out, pool)``. Its tasks are machine code: they cannot run under ``NUMBA_DISABLE_JIT``.

    Raises
    ------
    ValueError
        The geometry is not that of a depthwise convolution.
    TypeError
        Dtypes and epilogue do not belong together.
    """
    if geometry.out_channels != geometry.channels or geometry.input_stride != (1, 1):
        raise ValueError(f"depthwise: expected as many outputs as channels and no zero-stuffing, got {geometry}.")
    level = isa.level(tier)
    if x_dtype.char in "bB" and isinstance(epilogue, IntegerEpilogue):
        blocks = permuted_blocks(geometry, level)
        if blocks is not None:
            return prepare_permuted(geometry, x_dtype, out_dtype, weight, epilogue, threads, blocks)
        return prepare_integer(geometry, x_dtype, out_dtype, weight, epilogue, threads, level)
    if x_dtype.char == "f" and out_dtype.char == "f" and isinstance(epilogue, FloatEpilogue):
        if can_share_rows(geometry, level):
            return prepare_rows(geometry, weight, epilogue, threads)
        pieces = float_pieces(geometry, level)
        if pieces is not None:
            return prepare_permuted_floats(geometry, weight, epilogue, threads, pieces)
        return prepare_floats(geometry, weight, epilogue, threads)
    raise TypeError(f"depthwise: {x_dtype} to {out_dtype} with {type(epilogue).__name__} is none of its kernels.")
