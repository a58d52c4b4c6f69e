"""The float32 kernels of any vector width, one for each format of weights, as the registry describes them."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from sparse_rt_kernels.between.direct_convolution.calls import prepare_floats
from sparse_rt_kernels.product.epilogue import FloatEpilogue, IntegerEpilogue
from sparse_rt_kernels.product.f32.call import Rows, float_epilogue, prepare
from sparse_rt_kernels.product.f32.weight import REDUCTION
from sparse_rt_kernels.product.geometry import ConvGeometry, MatmulShape
from sparse_rt_kernels.product.registry import Kernel
from sparse_rt_kernels.product.weight import PackedWeight, Panels
from sparse_rt_kernels.threads.launch import Launch
from sparse_rt_kernels.tiled_f32.blocking import Shape, split
from sparse_rt_kernels.tiled_f32.task.product import SHARE, product_task, task_bytes
from sparse_rt_kernels.tiled_f32.weight import STRATEGIES, number_of

__all__ = ["kernel_for"]

Epilogue = FloatEpilogue | IntegerEpilogue

#: Products that are worth a task of their own: 4 to 8 us.
_TASK_PRODUCTS: Final = 500_000
#: Lanes of the tier whose convolutions may be direct.
_WORD_LANES: Final = 16


@dataclass(frozen=True)
class _Family:
    """The functions of one kernel."""

    name: str
    shape: Shape
    format: str

    def pack_weight(self, weight: Any) -> PackedWeight[Panels]:
        return STRATEGIES[number_of(self.format)].pack(self.name, weight, self.shape.channels)

    def prepare_matmul(
        self, shape: MatmulShape, packed: PackedWeight[Panels], epilogue: Epilogue, threads: int
    ) -> Launch:
        return self._prepare(Rows.of_matrix(shape), packed, float_epilogue(self.name, epilogue), threads)

    def prepare_conv(
        self,
        geometry: ConvGeometry,
        x_dtype: np.dtype[Any],
        out_dtype: np.dtype[Any],
        packed: PackedWeight[Panels],
        epilogue: Epilogue,
        threads: int,
    ) -> Launch:
        floats = float_epilogue(self.name, epilogue)
        if self.shape.lanes == _WORD_LANES and self.format == "dense":
            launch = prepare_floats(geometry, packed, floats, threads)
            if launch is not None:
                return launch
        return self._prepare(Rows.of_images(geometry), packed, floats, threads)

    def _prepare(self, rows: Rows, packed: PackedWeight[Panels], epilogue: FloatEpilogue, threads: int) -> Launch:
        lanes, _, channels = self.shape
        tiles, octets = packed.panels.values.shape[:2]
        work = rows.images * rows.rows * tiles * channels * octets * REDUCTION // _TASK_PRODUCTS
        panels, block = rows.images * self.shape.panel_count(rows.rows), self.shape.block_octets(octets)
        shares = split(panels, tiles, lanes // channels, threads, max(1, work), block)
        scratch_bytes = task_bytes(self.shape, block, max(share.last_tile - share.first_tile for share in shares))
        task = product_task(self.shape, self.format)
        return prepare(task, np.array(shares, SHARE), rows, packed, epilogue, scratch_bytes)


#: See :class:`.registry.Kernel`, by format.
_FEW_CHANNELS = {"n2m4": 64}


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
    shape = Shape(lanes, vectors, channels)
    family = _Family(f"f32_{format}_gemm_{lanes * vectors}x{channels}__{tier}", shape, format)
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
        few_channels=_FEW_CHANNELS.get(format),
    )
