"""The float32 kernels of any vector width, one for each format of weights, as the registry describes them."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from sparse_rt_kernels.product.epilogue import FloatEpilogue
from sparse_rt_kernels.product.f32.call import FloatCalls, Rows, prepare
from sparse_rt_kernels.product.f32.weight import REDUCTION
from sparse_rt_kernels.product.geometry import ConvGeometry
from sparse_rt_kernels.product.registry import Kernel
from sparse_rt_kernels.product.weight import PackedWeight, Panels
from sparse_rt_kernels.threads.launch import Launch
from sparse_rt_kernels.tiled_f32.blocking import Shape, split
from sparse_rt_kernels.tiled_f32.task.product import SHARE, product_task, task_bytes
from sparse_rt_kernels.tiled_f32.weight import STRATEGIES, number_of
from sparse_rt_kernels.tiled_f32.weight.strategy import Strategy

__all__ = ["kernel_for"]

#: Products that are worth a task of their own: 4 to 8 us.
_TASK_PRODUCTS: Final = 500_000
#: Lanes of the tier whose convolutions may be direct, where the format of the weight allows it.
_DIRECT_LANES: Final = 16


@dataclass(frozen=True)
class _Family(FloatCalls):
    """The functions of one kernel."""

    name: str
    shape: Shape
    weight: Strategy

    def pack_weight(self, arrays: Any) -> PackedWeight[Panels]:
        return self.weight.pack(self.name, arrays, self.shape.channels)

    def prepare_pixels(
        self, geometry: ConvGeometry, packed: PackedWeight[Panels], epilogue: FloatEpilogue, threads: int
    ) -> Launch:
        if self.shape.lanes == _DIRECT_LANES and self.weight.prepare_direct is not None:
            launch = self.weight.prepare_direct(geometry, packed, epilogue, threads)
            if launch is not None:
                return launch
        return super().prepare_pixels(geometry, packed, epilogue, threads)

    def prepare_rows(self, rows: Rows, packed: PackedWeight[Panels], epilogue: FloatEpilogue, threads: int) -> Launch:
        lanes, _, channels = self.shape
        tiles, octets = packed.panels.values.shape[:2]
        work = rows.images * rows.rows * tiles * channels * octets * REDUCTION // _TASK_PRODUCTS
        panels, block = rows.images * self.shape.panel_count(rows.rows), self.shape.block_octets(octets)
        shares = split(panels, tiles, lanes // channels, threads, max(1, work), block)
        scratch_bytes = task_bytes(self.shape, block, max(share.last_tile - share.first_tile for share in shares))
        task = product_task(self.shape, self.weight.format)
        return prepare(task, np.array(shares, SHARE), rows, packed, epilogue, scratch_bytes)


def kernel_for(tier: str, format: str, lanes: int, vectors: int, channels: int) -> Kernel:
    """Return the kernel for one tier and format of weights.

    Parameters
    ----------
    tier
        Of :mod:`sparse_rt_kernels.cpu.isa`.
    format
        Of :data:`.weight.STRATEGIES`.
    lanes, vectors, channels
        Of :class:`.blocking.Shape`; at most 6 vectors.
    """
    shape, weight = Shape(lanes, vectors, channels), STRATEGIES[number_of(format)]
    family = _Family(f"f32_{format}_gemm_{lanes * vectors}x{channels}__{tier}", shape, weight)
    return Kernel(
        family.name,
        "f32",
        format,
        lanes * vectors,
        channels,
        tier,
        family.pack_weight,
        family.prepare_matmul,
        family.prepare_conv,
        few_channels=weight.few_channels,
    )
