"""The portable int8 2:4 kernel, as the registry describes it."""

from typing import Any, Final

import numpy as np

from sparse_rt_kernels.n2m4_u8s8.task.portable import CALL, product_task, task_bytes
from sparse_rt_kernels.n2m4_u8s8.tile.portable import LANES
from sparse_rt_kernels.n2m4_u8s8.weight import pack
from sparse_rt_kernels.product.epilogue import FloatEpilogue, IntegerEpilogue
from sparse_rt_kernels.product.geometry import ConvGeometry, MatmulShape
from sparse_rt_kernels.product.indirection import NO_INDIRECTION, indirection_of
from sparse_rt_kernels.product.registry import Kernel
from sparse_rt_kernels.product.u8s8.clipping import clip_bounds
from sparse_rt_kernels.product.u8s8.sizes import CHANNELS
from sparse_rt_kernels.product.weight import Indexed, PackedWeight, Panels
from sparse_rt_kernels.threads.launch import Launch, Phase

__all__ = ["PORTABLE"]

NAME: Final = f"u8s8_n2m4_gemm_{LANES}x{CHANNELS}__generic"


def _pack(weight: Indexed) -> PackedWeight[Panels]:
    return pack(NAME, weight)


def _launch(
    matrix: MatmulShape,
    convolution: ConvGeometry | None,
    packed: PackedWeight[Panels],
    epilogue: FloatEpilogue | IntegerEpilogue,
    threads: int,
) -> Launch:
    """Prepare a call for the rows of `matrix`, which are the pixels of each image of a `convolution`.

    Tasks are panels of 64 rows, and parts of the channels where panels are few.
    """
    if not isinstance(epilogue, IntegerEpilogue):
        raise TypeError(f"{NAME}: expected an IntegerEpilogue, got {type(epilogue).__name__}.")
    if convolution is None:
        images, pad, indirection = 1, 0, NO_INDIRECTION
    else:
        images, pad, indirection = convolution.batch, convolution.pad_value, indirection_of(convolution)
    blocks, steps = packed.panels.values.shape[:2]
    panels = -(-matrix.m // LANES)
    parts = 1 if images * panels >= 2 * threads else min(blocks, threads)
    record = (
        *packed.addresses[:2],
        *epilogue.addresses,
        *(epilogue.zero_point, packed.n, steps, matrix.m, panels, parts),
        *(matrix.x_stride, matrix.columns, matrix.out_stride, pad),
        *clip_bounds(epilogue, matrix.out_dtype),
        *indirection,
    )
    task = product_task(int(convolution is not None), matrix.x_dtype, matrix.out_dtype)
    return Launch(
        [Phase(task, np.array([record], CALL), images * panels * parts)],
        0,
        task_bytes(steps),
        keep=(packed, epilogue),
        constants=(*packed.addresses, *epilogue.constants),
    )


def prepare_matmul(
    shape: MatmulShape, packed: PackedWeight[Panels], epilogue: FloatEpilogue | IntegerEpilogue, threads: int
) -> Launch:
    """Prepare ``out = epilogue(x @ w.T)``; see :class:`sparse_rt_kernels.product.registry.Kernel`."""
    return _launch(shape, None, packed, epilogue, threads)


def prepare_conv(
    geometry: ConvGeometry,
    x_dtype: np.dtype[Any],
    out_dtype: np.dtype[Any],
    packed: PackedWeight[Panels],
    epilogue: FloatEpilogue | IntegerEpilogue,
    threads: int,
) -> Launch:
    """Prepare ``out = epilogue(conv(x, w))``; see :class:`sparse_rt_kernels.product.registry.Kernel`."""
    pixels = MatmulShape(geometry.out_height * geometry.out_width, 0, x_dtype, out_dtype, 0, 0)
    return _launch(pixels, geometry, packed, epilogue, threads)


PORTABLE = Kernel(NAME, "u8s8", "n2m4", LANES, CHANNELS, "generic", _pack, prepare_matmul, prepare_conv)
