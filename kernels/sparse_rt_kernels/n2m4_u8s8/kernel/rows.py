"""The int8 2:4 kernel for AVX-512 VNNI, as the registry describes it."""

from typing import Any

import numpy as np

from sparse_rt_kernels.n2m4_u8s8.blocking.nchwc8 import image_blocking
from sparse_rt_kernels.n2m4_u8s8.blocking.rows import Blocking, blocking
from sparse_rt_kernels.n2m4_u8s8.kernel.nchwc8 import prepare_image
from sparse_rt_kernels.n2m4_u8s8.task.rows import (
    CONV,
    MATMUL,
    POINTWISE,
    conv_task,
    matmul_task,
    pointwise_task,
)
from sparse_rt_kernels.n2m4_u8s8.weight import pack
from sparse_rt_kernels.product.epilogue import FloatEpilogue, IntegerEpilogue
from sparse_rt_kernels.product.geometry import ConvGeometry, MatmulShape
from sparse_rt_kernels.product.registry import BlockedLayouts, Kernel
from sparse_rt_kernels.product.u8s8.operands import operands_for, output_kind
from sparse_rt_kernels.product.u8s8.partition import Partition, images_per_group, partition, worthwhile_threads
from sparse_rt_kernels.product.u8s8.sizes import CHANNELS, ROWS
from sparse_rt_kernels.product.u8s8.staging import sign_bits, stage_phase, staging_of
from sparse_rt_kernels.product.weight import Indexed, PackedWeight, Panels
from sparse_rt_kernels.threads.launch import Launch, Phase

__all__ = ["VNNI"]

NAME = f"u8s8_n2m4_gemm_{ROWS}x{CHANNELS}__avx512vnni"

#: Pixels from which on a 1x1 convolution packs each image on its own, instead of staging several side by side.
_DIRECT_PIXELS = 4 * ROWS


def _pack(weight: Indexed) -> PackedWeight[Panels]:
    return pack(NAME, weight)


def _product(
    parts: Partition,
    blocks: Blocking,
    packed: PackedWeight[Panels],
    epilogue: FloatEpilogue | IntegerEpilogue,
    x_dtype: np.dtype[Any],
    out_dtype: np.dtype[Any],
) -> tuple[Any, ...]:
    """Return the values of the fields that every product's record has; see :data:`tasks.MATMUL`."""
    operands = operands_for(packed, epilogue, x_dtype, out_dtype)
    steps, flip, kind = packed.panels.values.shape[1], sign_bits(x_dtype), output_kind(out_dtype)
    weight = (*packed.addresses[:2], packed.n, steps)
    return (*parts, *weight, flip, kind, *operands, out_dtype.itemsize, *blocks[:-1])


def _constants(packed: PackedWeight[Panels], epilogue: FloatEpilogue | IntegerEpilogue) -> tuple[int, ...]:
    return (*packed.addresses, *epilogue.constants)


def prepare_matmul(
    shape: MatmulShape, packed: PackedWeight[Panels], epilogue: FloatEpilogue | IntegerEpilogue, threads: int
) -> Launch:
    """Prepare ``out = epilogue(x @ w.T)``; see :class:`.registry.Kernel` and docs/kernels/contract.md."""
    steps = packed.panels.values.shape[1]
    parts = partition(shape.m, packed.n, worthwhile_threads(shape.m, packed.n, steps, threads))
    blocks = blocking(steps, -(-shape.m // parts.row_parts), shape.out_stride)
    product = _product(parts, blocks, packed, epilogue, shape.x_dtype, shape.out_dtype)
    record = np.array([(*product, shape.m, shape.columns, shape.x_stride, shape.out_stride)], MATMUL)
    return Launch(
        [Phase(matmul_task, record, parts.tasks)],
        0,
        blocks.end,
        keep=(packed, epilogue),
        constants=_constants(packed, epilogue),
    )


def prepare_conv(
    geometry: ConvGeometry,
    x_dtype: np.dtype[Any],
    out_dtype: np.dtype[Any],
    packed: PackedWeight[Panels],
    epilogue: FloatEpilogue | IntegerEpilogue,
    threads: int,
) -> Launch:
    """Prepare ``out = epilogue(conv(x, w))``; see :class:`.registry.Kernel` and docs/kernels/contract.md."""
    image = image_blocking(geometry)
    if image is not None and out_dtype.itemsize == 1 and packed.n % CHANNELS == 0:
        return prepare_image(geometry, image, (x_dtype, out_dtype), packed, epilogue, threads)
    if geometry.is_pointwise and geometry.height * geometry.width >= _DIRECT_PIXELS:
        return _prepare_pointwise(geometry, x_dtype, out_dtype, packed, epilogue, threads)
    staging = staging_of(geometry)
    group = images_per_group(staging.image_bytes, geometry.batch)
    pixels, steps = geometry.out_height * geometry.out_width, packed.panels.values.shape[1]
    image_items, out_items = geometry.channels * geometry.height * geometry.width, packed.n * pixels
    phases, scratch_bytes = [], 0
    for first in range(0, geometry.batch, group):
        images = min(group, geometry.batch - first)
        phases.append(stage_phase(geometry, staging, images, first * image_items, x_dtype, threads))
        rows = images * pixels
        parts = partition(rows, packed.n, worthwhile_threads(rows, packed.n, steps, threads))
        blocks = blocking(steps, -(-rows // parts.row_parts))
        scratch_bytes = max(scratch_bytes, blocks.end)
        record = (
            *_product(parts, blocks, packed, epilogue, x_dtype, out_dtype),
            images,
            geometry.out_height,
            geometry.out_width,
            staging.row_stride,
            staging.pixel_stride,
            staging.image_bytes,
            staging.words_address,
            first * out_items * out_dtype.itemsize,
        )
        phases.append(Phase(conv_task, np.array([record], CONV), parts.tasks))
    # The last step may reach 4 bytes beyond the last pixel.
    return Launch(
        phases,
        group * staging.image_bytes + 8,
        scratch_bytes,
        keep=(packed, epilogue, staging),
        constants=_constants(packed, epilogue),
    )


def prepare_blocked(
    geometry: ConvGeometry,
    x_dtype: np.dtype[Any],
    out_dtype: np.dtype[Any],
    packed: PackedWeight[Panels],
    epilogue: FloatEpilogue | IntegerEpilogue,
    threads: int,
    layouts: BlockedLayouts,
) -> Launch | None:
    """Prepare a convolution whose input, output, or both are in blocks of 8 channels.

    None if tiles do not fit it, or if the border of its input does not hold its padding.
    """
    if out_dtype.itemsize > 1 or packed.n % CHANNELS:
        return None
    padding = int(geometry.pad_value) + (128 if x_dtype.char == "b" else 0)
    if layouts.x is not None and not layouts.x.holds(geometry.pads, padding):
        return None
    image = image_blocking(geometry, layouts.x, layouts.y)
    if image is None:
        return None
    return prepare_image(geometry, image, (x_dtype, out_dtype), packed, epilogue, threads, layouts.y)


def _prepare_pointwise(
    geometry: ConvGeometry,
    x_dtype: np.dtype[Any],
    out_dtype: np.dtype[Any],
    packed: PackedWeight[Panels],
    epilogue: FloatEpilogue | IntegerEpilogue,
    threads: int,
) -> Launch:
    """Prepare a convolution with a 1x1 kernel that packs panels straight from the planes."""
    pixels, steps = geometry.height * geometry.width, packed.panels.values.shape[1]
    parts = partition(pixels, packed.n, worthwhile_threads(pixels, packed.n, steps, threads))
    blocks = blocking(steps, -(-pixels // parts.row_parts))
    product = _product(parts, blocks, packed, epilogue, x_dtype, out_dtype)
    record = np.array([(*product, geometry.batch, geometry.channels, pixels)], POINTWISE)
    return Launch(
        [Phase(pointwise_task, record, parts.tasks)],
        0,
        blocks.end,
        keep=(packed, epilogue),
        constants=_constants(packed, epilogue),
    )


VNNI = Kernel(
    NAME,
    "u8s8",
    "n2m4",
    ROWS,
    CHANNELS,
    "avx512vnni",
    _pack,
    prepare_matmul,
    prepare_conv,
    prepare_blocked=prepare_blocked,
    few_channels=32,
)
