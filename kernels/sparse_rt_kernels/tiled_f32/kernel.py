"""The float32 kernels of any vector width, 2:4 and dense: argument plumbing, and the split of the work over threads."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sparse_rt_kernels.between.direct_convolution.calls import prepare_floats
from sparse_rt_kernels.product.epilogue import FloatEpilogue, IntegerEpilogue
from sparse_rt_kernels.product.f32.weight import REDUCTION
from sparse_rt_kernels.product.geometry import ConvGeometry, MatmulShape
from sparse_rt_kernels.product.indirection import Indirection, indirection_of
from sparse_rt_kernels.product.registry import Kernel
from sparse_rt_kernels.product.weight import PackedWeight, Panels
from sparse_rt_kernels.threads.launch import Launch, Phase
from sparse_rt_kernels.tiled_f32.blocking import Shape
from sparse_rt_kernels.tiled_f32.task import CALL, SHARE, Share, product_task, task_bytes
from sparse_rt_kernels.tiled_f32.weight import STRATEGIES, number_of

__all__ = ["kernel_for"]

Array = NDArray[np.float32]
Epilogue = FloatEpilogue | IntegerEpilogue

#: Products that are worth a task of their own: 4 to 8 us.
_TASK_PRODUCTS: Final = 500_000
#: Lanes of the tier whose convolutions may read word images.
_WORD_LANES: Final = 16
# A matmul gathers nothing.
_NO_INDIRECTION = indirection_of(ConvGeometry(1, 4, 1, 1, 4))


def _shares(panels: int, tiles: int, strip: int, threads: int, most: int) -> list[Share]:
    """Split panels over threads if there are enough of them, else channels too, in whole strips of tiles.

    Not into more than `most` tasks.
    """
    if min(threads, most) == 1:
        return [Share(0, panels, 0, tiles)]
    parts = min(panels, 4 * threads, most)
    strips = -(-tiles // strip)
    pieces = 1 if panels >= 2 * threads else min(strips, -(-2 * threads // panels), max(1, most // parts))
    return [
        Share(
            panels * part // parts,
            panels * (part + 1) // parts,
            min(tiles, strips * piece // pieces * strip),
            min(tiles, strips * (piece + 1) // pieces * strip),
        )
        for part in range(parts)
        for piece in range(pieces)
    ]


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
        strides = (shape.x_stride, shape.columns, shape.out_stride)
        return self._launch(shape.m, 1, strides, None, packed, self._float(epilogue), threads)

    def prepare_conv(
        self,
        geometry: ConvGeometry,
        x_dtype: np.dtype[Any],
        out_dtype: np.dtype[Any],
        packed: PackedWeight[Panels],
        epilogue: Epilogue,
        threads: int,
    ) -> Launch:
        floats = self._float(epilogue)
        if self.shape.lanes == _WORD_LANES and self.format == "dense":
            launch = prepare_floats(geometry, packed, floats, threads)
            if launch is not None:
                return launch
        pixels = geometry.out_height * geometry.out_width
        return self._launch(pixels, geometry.batch, (0, 0, 0), indirection_of(geometry), packed, floats, threads)

    def _float(self, epilogue: Epilogue) -> FloatEpilogue:
        if not isinstance(epilogue, FloatEpilogue):
            raise TypeError(f"{self.name}: expected a FloatEpilogue, got {type(epilogue).__name__}.")
        return epilogue

    def _launch(
        self,
        rows: int,
        images: int,
        strides: tuple[int, int, int],
        indirection: Indirection | None,
        packed: PackedWeight[Panels],
        epilogue: FloatEpilogue,
        threads: int,
    ) -> Launch:
        """Prepare a call for `images` images, or one matrix if there is no `indirection`, in one task or several.

        `strides` are the bytes from row to row of x, how many columns it has, and the bytes from row to row of out.
        """
        lanes, _, channels = self.shape
        tiles, octets = packed.panels.values.shape[:2]
        work = images * rows * tiles * channels * octets * REDUCTION // _TASK_PRODUCTS
        shares = _shares(images * self.shape.panel_count(rows), tiles, lanes // channels, threads, max(1, work))
        table = np.array(shares, SHARE)
        block = self.shape.block_octets(octets)
        x_stride, columns, out_stride = strides
        record = (
            table.ctypes.data,
            *packed.addresses[:2],
            tiles,
            octets,
            x_stride,
            columns,
            out_stride,
            epilogue.address,
            packed.n,
            rows,
            indirection is not None,
            block,
            epilogue.low,
            epilogue.high,
            *(_NO_INDIRECTION if indirection is None else indirection),
        )
        needed = task_bytes(self.shape, block, max(share.last_tile - share.first_tile for share in shares))
        phase = Phase(product_task(self.shape, self.format), np.array([record], CALL), len(shares))
        constants = (*packed.addresses, epilogue.address)
        return Launch([phase], 0, needed, keep=(packed, epilogue, table), constants=constants)


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
    )
