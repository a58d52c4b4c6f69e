"""The float32 kernels of any vector width, 2:4 and dense: argument plumbing, and the split of the work over threads."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparse_rt_kernels.epilogue import FloatEpilogue, IntegerEpilogue
from sparse_rt_kernels.gather import Gather, gather_of
from sparse_rt_kernels.geometry import ConvGeometry
from sparse_rt_kernels.launch import Launch, PythonLaunch
from sparse_rt_kernels.parallel import ThreadPool
from sparse_rt_kernels.registry import Kernel, PackedWeight, prepared_conv, prepared_matmul
from sparse_rt_kernels.tiled_f32.product import Call, Share, product
from sparse_rt_kernels.tiled_f32.shape import REDUCTION, Shape
from sparse_rt_kernels.tiled_f32.weight import pack
from sparse_rt_kernels.word_image.calls import prepare_floats
from sparse_rt_kernels.workspace import address_of, scratch

__all__ = ["kernel_for"]

Array = NDArray[np.float32]
Epilogue = FloatEpilogue | IntegerEpilogue

# A matmul gathers nothing.
_NO_GATHER = gather_of(ConvGeometry(1, 4, 1, 1, 4))


def _shares(panels: int, tiles: int, strip: int, threads: int) -> list[Share]:
    """Split panels over threads if there are enough of them, else channels too, in whole strips of tiles."""
    if threads == 1:
        return [Share(0, panels, 0, tiles)]
    parts = min(panels, 4 * threads)
    strips = -(-tiles // strip)
    pieces = 1 if panels >= 2 * threads else min(strips, -(-2 * threads // panels))
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

    def pack_weight(self, values: Array, index: NDArray[np.uint8]) -> PackedWeight:
        return pack(self.name, values, index, self.shape)

    def matmul(self, x: Array, packed: PackedWeight, epilogue: Epilogue, out: Array, pool: ThreadPool) -> None:
        floats = self._float(epilogue)
        if not out.size:
            return
        rows, columns = x.shape
        places = address_of(x), x.strides[0], columns, address_of(out), out.strides[0], address_of(floats.bias)
        call = Call(*places, packed.n, rows, 0, self._block(packed), float(floats.low), float(floats.high))
        self._run(call, _NO_GATHER, packed, 1, pool)

    def conv(
        self,
        x: Array,
        geometry: ConvGeometry,
        packed: PackedWeight,
        epilogue: Epilogue,
        out: Array,
        pool: ThreadPool,
    ) -> None:
        floats = self._float(epilogue)
        if not out.size:
            return
        places = address_of(x), 0, 0, address_of(out), 0, address_of(floats.bias)
        pixels = geometry.out_height * geometry.out_width
        call = Call(*places, packed.n, pixels, 1, self._block(packed), float(floats.low), float(floats.high))
        self._run(call, gather_of(geometry), packed, geometry.batch, pool)

    def prepare_conv(
        self,
        geometry: ConvGeometry,
        x_dtype: np.dtype[Any],
        out_dtype: np.dtype[Any],
        packed: PackedWeight,
        epilogue: Epilogue,
        threads: int,
    ) -> Launch | PythonLaunch:
        launch = prepare_floats(geometry, packed, self._float(epilogue), threads)
        if launch is not None:
            return launch
        return prepared_conv(self.conv)(geometry, x_dtype, out_dtype, packed, epilogue, threads)

    def _block(self, packed: PackedWeight) -> int:
        return self.shape.block_octets(packed.values.shape[1])

    def _float(self, epilogue: Epilogue) -> FloatEpilogue:
        if not isinstance(epilogue, FloatEpilogue):
            raise TypeError(f"{self.name}: expected a FloatEpilogue, got {type(epilogue).__name__}.")
        return epilogue

    def _run(self, call: Call, gather: Gather, packed: PackedWeight, images: int, pool: ThreadPool) -> None:
        """Compute a call for `images` images, in one task or several."""
        lanes, vectors, channels, _ = self.shape
        tiles = packed.values.shape[0]
        shares = _shares(images * self.shape.panel_count(call.rows), tiles, lanes // channels, pool.threads)
        run, width = product(self.shape), lanes * vectors

        def task(number: int) -> None:
            share = shares[number]
            kept = -(-(share.last_tile - share.first_tile) * channels // lanes) * lanes
            nbytes = (call.block_octets * REDUCTION + lanes + kept) * width * 4
            table = scratch("tiled f32 lanes", 3 * width * 4)[: 3 * width * 4].view(np.int32).reshape(3, width)
            floats = scratch("tiled f32", nbytes).view(np.float32)
            run(call, gather, share, packed.values, packed.index, floats, table)

        pool.run(task, len(shares))


def kernel_for(tier: str, form: str, lanes: int, vectors: int, channels: int) -> Kernel:
    """Return the kernel for one tier and form of weights.

    Parameters
    ----------
    tier
        Of :mod:`sparse_rt_kernels.isa`.
    form
        ``"n2m4"`` or ``"dense"``.
    lanes, vectors, channels
        Of :class:`.shape.Shape`; at most 6 vectors.
    """
    shape = Shape(lanes, vectors, channels, int(form == "n2m4"))
    family = _Family(f"f32_{form}_gemm_{lanes * vectors}x{channels}__{tier}", shape)
    return Kernel(
        family.name,
        "f32",
        lanes * vectors,
        channels,
        tier,
        family.pack_weight,
        prepared_matmul(family.matmul),
        family.prepare_conv if lanes == 16 else prepared_conv(family.conv),
        form,
    )
