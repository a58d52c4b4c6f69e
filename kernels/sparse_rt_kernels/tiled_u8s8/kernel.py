"""The int8 kernels of any vector width, 2:4 and dense: argument plumbing, and the split of the work over threads."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from sparse_rt_kernels.between.direct_convolution.calls import prepare_bytes
from sparse_rt_kernels.product.epilogue import FloatEpilogue, IntegerEpilogue
from sparse_rt_kernels.product.geometry import ConvGeometry, MatmulShape
from sparse_rt_kernels.product.registry import Kernel
from sparse_rt_kernels.product.u8s8.operands import operands_for, output_kind
from sparse_rt_kernels.product.u8s8.partition import images_per_group, partition, worthwhile_threads
from sparse_rt_kernels.product.u8s8.sizes import CHANNELS, STEP
from sparse_rt_kernels.product.u8s8.staging import sign_bits, stage_phase, staging_of
from sparse_rt_kernels.product.weight import PackedWeight, Panels
from sparse_rt_kernels.threads.launch import Launch, Phase
from sparse_rt_kernels.tiled_u8s8.blocking import Shape, blocking
from sparse_rt_kernels.tiled_u8s8.task import PRODUCT, product_task
from sparse_rt_kernels.tiled_u8s8.weight import number_of

__all__ = ["kernel_for"]

Epilogue = FloatEpilogue | IntegerEpilogue

#: The tile of the tier whose convolutions may be direct.
_DIRECT_SHAPE = Shape(CHANNELS, 1, number_of("dense"))


class _Source(NamedTuple):
    """Where a product's rows come from: the fields of :class:`.task.Rows`, :class:`.panels.Pixels`, but addresses."""

    stride: int
    columns: int
    flip: int
    out_height: int = 0
    out_width: int = 0
    down: int = 0
    right: int = 0
    image_bytes: int = 0
    words: int = 0


def _finish(
    packed: PackedWeight[Panels], epilogue: Epilogue, x_dtype: np.dtype[Any], out_dtype: np.dtype[Any]
) -> tuple[Any, ...]:
    """Return the kind of the outputs, and the operands that make them of sums."""
    return (output_kind(out_dtype), *operands_for(packed, epilogue, x_dtype, out_dtype))


@dataclass(frozen=True)
class _Family:
    """The functions of one kernel."""

    name: str
    shape: Shape

    def pack_weight(self, weight: Any) -> PackedWeight[Panels]:
        return self.shape.weight.pack(self.name, weight)

    def prepare_matmul(
        self, shape: MatmulShape, packed: PackedWeight[Panels], epilogue: Epilogue, threads: int
    ) -> Launch:
        finish = _finish(packed, epilogue, shape.x_dtype, shape.out_dtype)
        source = _Source(shape.x_stride, shape.columns, sign_bits(shape.x_dtype))
        out = (0, shape.out_dtype.itemsize, shape.out_stride, 0, 0)
        phase, scratch_bytes = self._product(shape.m, packed, source, out, finish, threads)
        constants = (*packed.addresses, *epilogue.constants)
        return Launch([phase], 0, scratch_bytes, keep=(packed, epilogue), constants=constants)

    def prepare_conv(
        self,
        geometry: ConvGeometry,
        x_dtype: np.dtype[Any],
        out_dtype: np.dtype[Any],
        packed: PackedWeight[Panels],
        epilogue: Epilogue,
        threads: int,
    ) -> Launch:
        finish = _finish(packed, epilogue, x_dtype, out_dtype)
        if self.shape == _DIRECT_SHAPE:
            launch = prepare_bytes(geometry, x_dtype, out_dtype, packed, epilogue, threads)
            if launch is not None:
                return launch
        staging = staging_of(geometry)
        group = images_per_group(staging.image_bytes, geometry.batch)
        height, width = geometry.out_height, geometry.out_width
        pixels, plane = height * width, height * width * out_dtype.itemsize
        strides = (staging.row_stride, staging.pixel_stride, staging.image_bytes)
        source = _Source(0, 0, 0, height, width, *strides, staging.words_address)
        phases, scratch_bytes = [], 0
        for first in range(0, geometry.batch, group):
            images = min(group, geometry.batch - first)
            image_items = geometry.channels * geometry.height * geometry.width
            phases.append(stage_phase(geometry, staging, images, first * image_items, x_dtype, threads))
            out = (first * packed.n * plane, out_dtype.itemsize, plane, pixels, packed.n * plane)
            phase, needed = self._product(images * pixels, packed, source, out, finish, threads)
            phases.append(phase)
            scratch_bytes = max(scratch_bytes, needed)
        # The last step may reach 4 bytes beyond the last pixel.
        shared_bytes = group * staging.image_bytes + STEP
        constants = (*packed.addresses, *epilogue.constants)
        return Launch(phases, shared_bytes, scratch_bytes, keep=(packed, epilogue, staging), constants=constants)

    def _product(
        self,
        m: int,
        packed: PackedWeight[Panels],
        source: _Source,
        out: tuple[int, ...],
        finish: tuple[Any, ...],
        threads: int,
    ) -> tuple[Phase, int]:
        """Return the phase that multiplies `m` rows, in one task or several, and the scratch bytes of each."""
        count, steps = packed.panels.values.shape[:2]
        values, index = packed.addresses[:2]
        sizes = (packed.panels.values.nbytes // count, packed.panels.indexes.nbytes // count)
        parts = partition(m, packed.n, worthwhile_threads(m, packed.n, steps, threads))
        blocks = blocking(self.shape, steps, -(-m // parts.row_parts))
        weight = (values, index, packed.n, steps, count, *sizes)
        record = (*parts, m, *weight, *source, *out, *finish, *blocks[:-1])
        return Phase(product_task(self.shape), np.array([record], PRODUCT), parts.tasks), blocks.end


def kernel_for(tier: str, format: str, lanes: int, has_dot: bool) -> Kernel:
    """Return the kernel for one tier and format of weights.

    Parameters
    ----------
    tier
        Of :mod:`sparse_rt_kernels.cpu.isa`.
    format
        Of :data:`.weight.STRATEGIES`.
    lanes, has_dot
        Of :class:`.blocking.Shape`.
    """
    shape = Shape(lanes, int(has_dot), number_of(format))
    family = _Family(f"u8s8_{format}_gemm_{shape.rows}x{min(lanes, CHANNELS)}__{tier}", shape)
    return Kernel(
        family.name,
        "u8s8",
        format,
        shape.rows,
        lanes,
        tier,
        family.pack_weight,
        family.prepare_matmul,
        family.prepare_conv,
        few_channels=shape.weight.few_channels,
    )
